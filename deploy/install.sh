#!/bin/sh
# Installs what was built, ./lasthop or $LASTHOP, to $PREFIX below $DESTDIR. Starts and enables nothing, and keeps a lasthop.yaml that is
# there. For `make install`.
set -eu
cd "$(dirname "$0")/.."
root=${DESTDIR:-} prefix=${PREFIX:-/usr} units=${UNITDIR:-/lib/systemd/system} etc=${DESTDIR:-}/etc

put() { install -D -m "$1" "$2" "$3"; }

put 755 "${LASTHOP:-lasthop}" "$root$prefix/sbin/lasthop"
sed "s|/usr/sbin/|$prefix/sbin/|" deploy/lasthop.service | put 644 /dev/stdin "$root$units/lasthop.service"
put 644 deploy/lasthop.sysusers "$root$prefix/lib/sysusers.d/lasthop.conf"
put 644 deploy/lasthop.tmpfiles "$root$prefix/lib/tmpfiles.d/lasthop.conf"
put 644 deploy/lasthop.catalog "$root$prefix/lib/systemd/catalog/lasthop.catalog"
put 644 deploy/rt_protos.conf "$etc/iproute2/rt_protos.d/lasthop.conf"
[ -e "$etc/lasthop/lasthop.yaml" ] || put 644 deploy/lasthop.yaml "$etc/lasthop/lasthop.yaml"
for file in README.md LICENSE deploy/THIRD-PARTY-LICENSES docs/*.md deploy/lasthop.yaml deploy/nginx.service.d/lasthop.conf deploy/lasthop.service.d/last-hop.conf deploy/networkd.conf.d/lasthop.conf; do
	sed "s|/usr/sbin/lasthop|$prefix/sbin/lasthop|" "$file" | put 644 /dev/stdin "$root$prefix/share/doc/lasthop/${file#deploy/}"
done
cat <<END
Installed; nothing was started. See first what would be done: $prefix/sbin/lasthop plan
Then: systemd-sysusers && systemd-tmpfiles --create && journalctl --update-catalog && systemctl daemon-reload && systemctl enable --now lasthop
END
