"""Phase 1: readiness and baseline. Changes nothing in the cloud."""
