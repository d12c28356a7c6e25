#!/bin/sh
# Runs while the image is made, with its root as the only argument: fetches, without installing it, the kernel of the guests.
set -eu
root=$1
package=$(chroot "$root" apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" && $2 ~ /^linux-image-[0-9]/ { print $2; exit }')
[ -n "$package" ] || { echo "linux-image-cloud-amd64 depends on no kernel" >&2; exit 1; }
mkdir -p "$root/root/kernel"
# shellcheck disable=SC2016
chroot "$root" sh -c 'cd /root/kernel && apt-get -o APT::Sandbox::User=root download "$1"' fetch-kernel "$package"
