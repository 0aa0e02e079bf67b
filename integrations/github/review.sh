#!/usr/bin/env bash
# Checks the specs in $ABLC_PATHS and annotates what is wrong; writes what changes since $ABLC_BASE to the step's summary.
# Ends with the check's exit code: what is broken fails the job, what merely changes doesn't.
set -uo pipefail

# Paths are parted by blanks or newlines, as an input of several lines has them.
read -r -d '' -a paths <<<"${ABLC_PATHS:-}" || true
[ "${#paths[@]}" -gt 0 ] || paths=(.)
strict=()
[ "${ABLC_STRICT:-false}" = true ] && strict=(--strict)

summary() { if [ -n "${GITHUB_STEP_SUMMARY:-}" ]; then cat >>"$GITHUB_STEP_SUMMARY"; else cat; fi; }

# The commit to compare with. A pull request is checked out as its merge into the base: what changes is what differs from
# that merge's first parent, though the base has gone on meanwhile.
base() {
  local parents
  parents=$(git cat-file -p HEAD | sed -n '/^$/q; s/^parent //p')
  if [[ "${GITHUB_REF:-}" == refs/pull/*/merge && "$parents" == *$'\n'* ]]; then
    echo "${parents%%$'\n'*}"
  else
    echo "$ABLC_BASE"
  fi
}

# A shallow checkout hasn't the commit that the pull request goes on from.
fetched() { git cat-file -e "$1^{commit}" 2>/dev/null || git fetch --quiet --depth=1 origin "$1"; }

compare() {
  local from to text
  echo "## What changes in the models"
  echo
  from=$(base)
  to=$(git rev-parse HEAD)
  if fetched "$from" >&2 && text=$(ablc diff --format github "$from" "$to" -- "${paths[@]}"); [ -n "${text:-}" ]; then
    echo "$text"
  else
    echo "It couldn't be compared with \`$from\`; the log says why."
    echo "::warning title=ablc::the specs couldn't be compared with $from" >&2
  fi
}

ablc check --format github ${strict[@]+"${strict[@]}"} -- "${paths[@]}"
code=$?

if [ "${ABLC_STRICT:-false}" = true ]; then
  ablc fmt --check -- "${paths[@]}" || code=$((code > 1 ? code : 1))
fi
if [ -n "${ABLC_BASE:-}" ]; then
  compare | summary
fi
exit "$code"
