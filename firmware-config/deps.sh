#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Install the Debian packages named as arguments, and only those that are missing.
set -euo pipefail

missing=()
for package in "$@"; do
	status=$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null || true)
	[[ $status == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

echo "  APT     ${missing[*]}"
if [[ $(id -u) -ne 0 ]]; then
	cat >&2 <<-END
	These packages are missing and only root can install them. Run:
	  sudo apt-get install --no-install-recommends ${missing[*]}
	END
	exit 1
fi

log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! apt-get update -q >"$log" 2>&1; then
	tail -5 "$log" >&2
	echo "apt-get update failed (is this machine online?); trying with the lists that are here" >&2
fi
if ! apt-get install -y -q --no-install-recommends "${missing[@]}" >"$log" 2>&1; then
	tail -15 "$log" >&2
	cat >&2 <<-END
	Could not install: ${missing[*]}
	Check the network and /etc/apt/sources.list, then run again:
	  apt-get update && apt-get install --no-install-recommends ${missing[*]}
	END
	exit 1
fi
