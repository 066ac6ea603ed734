#!/bin/bash
# SPDX-License-Identifier: BSD-3-Clause
# Install programs, models, configuration and systemd units under PREFIX (and DESTDIR). An existing
# configuration file is never overwritten.
set -euo pipefail
cd "$(dirname "$0")/.."
BUILD=${BUILD:-build}
PREFIX=${PREFIX:-/usr/local}
root=${DESTDIR:-}
etc=$root/etc/millrace

install -d "$root$PREFIX/bin" "$root$PREFIX/share/millrace/profiles" "$root$PREFIX/share/millrace/models" \
	"$etc" "$root/etc/systemd/system"
for program in "$BUILD"/bin/millrace*; do
	[[ ! -f $program ]] || install -m 755 "$program" "$root$PREFIX/bin/"
done
install -m 644 "$BUILD"/bin/*.bpf.o "$root$PREFIX/bin/"
install -m 644 firmware-config/profiles/*.conf "$root$PREFIX/share/millrace/profiles/"
for model in "$BUILD"/models/*.mrm; do
	[[ ! -f $model ]] || install -m 644 "$model" "$root$PREFIX/share/millrace/models/"
done
if [[ -e $etc/millrace.yaml ]]; then
	install -m 640 firmware-config/millrace.yaml "$etc/millrace.yaml.new"
	echo "kept $etc/millrace.yaml; the new example is millrace.yaml.new beside it"
else
	install -m 640 firmware-config/millrace.yaml "$etc/millrace.yaml"
	# The units installed here run the dataplane: control attaches to it.
	sed -i 's/^  attach: false /  attach: true  /' "$etc/millrace.yaml"
fi
for unit in firmware-config/systemd/*.service; do
	sed "s|@PREFIX@|$PREFIX|g" "$unit" >"$root/etc/systemd/system/${unit##*/}"
done
cat <<END
installed under $root$PREFIX. Next:
  edit $etc/millrace.yaml, then
  millrace-host check --config $etc/millrace.yaml
  systemctl daemon-reload && systemctl enable --now millrace-dataplane millrace-control
END
