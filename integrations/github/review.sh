#!/usr/bin/env bash
# Checks the specs in $ABLC_PATHS and annotates what is wrong; writes what changes since $ABLC_BASE to the step's summary.
# Ends with the check's exit code: what is broken fails the job, what merely changes doesn't.
set -uo pipefail
read -r -a paths <<<"${ABLC_PATHS:-.}"
strict=()
[ "${ABLC_STRICT:-false}" = true ] && strict=(--strict)

ablc check --format github "${strict[@]}" "${paths[@]}"
code=$?

if [ "${ABLC_STRICT:-false}" = true ]; then
  ablc fmt --check "${paths[@]}" || code=$((code > 1 ? code : 1))
fi

if [ -n "${ABLC_BASE:-}" ]; then
  # A shallow checkout hasn't the commit that the pull request goes on from.
  git cat-file -e "$ABLC_BASE^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$ABLC_BASE"
  {
    echo "## What changes in the models"
    echo
    ablc diff --format github "$ABLC_BASE" HEAD -- "${paths[@]}" || true
  } >>"${GITHUB_STEP_SUMMARY:-/dev/stdout}"
fi
exit "$code"
