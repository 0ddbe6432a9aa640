#!/bin/sh
# Installs a program that was built: for `make install`, and for `make
# packages`, so that there is one list of files. It starts and enables nothing,
# and keeps a lasthop.yaml that is there.
#
# LASTHOP  the program (./lasthop)            PREFIX   /usr                        UNITDIR  of systemd's units (/usr/lib/systemd/system)
# NATIVE   one that runs here ($LASTHOP)      DESTDIR  in front of all paths       ZSHDIR   of zsh's completions
set -eu
cd "$(dirname "$0")/.."
lasthop=$(realpath "${LASTHOP:-lasthop}") native=$(realpath "${NATIVE:-${LASTHOP:-lasthop}}")
root=${DESTDIR:-} prefix=${PREFIX:-/usr} units=${UNITDIR:-/usr/lib/systemd/system} etc=${DESTDIR:-}/etc
share=$root$prefix/share zsh=$root${ZSHDIR:-$prefix/share/zsh/site-functions}

# put MODE FROM TO
put() { install -D -m "$1" "$2" "$3"; }

put 755 "$lasthop" "$root$prefix/sbin/lasthop"
sed "s|/usr/sbin/|$prefix/sbin/|" deploy/lasthop.service | put 644 /dev/stdin "$root$units/lasthop.service"
put 644 deploy/lasthop.sysusers "$root$prefix/lib/sysusers.d/lasthop.conf"
put 644 deploy/lasthop.tmpfiles "$root$prefix/lib/tmpfiles.d/lasthop.conf"
put 644 deploy/networkd.conf.d/lasthop.conf "$root$prefix/lib/systemd/networkd.conf.d/50-lasthop.conf"
put 644 deploy/lasthop.catalog "$root$prefix/lib/systemd/catalog/lasthop.catalog"
put 644 deploy/rt_protos.conf "$etc/iproute2/rt_protos.d/lasthop.conf"
[ -e "$etc/lasthop/lasthop.yaml" ] || put 644 deploy/lasthop.yaml "$etc/lasthop/lasthop.yaml"
for file in README.md LICENSE SECURITY.md deploy/THIRD-PARTY-LICENSES docs/*.md deploy/lasthop.yaml deploy/nginx.service.d/lasthop.conf \
	deploy/lasthop.service.d/last-hop.conf deploy/prometheus/alerts.yaml deploy/prometheus/lasthop-check.* deploy/grafana/lasthop.json; do
	sed "s|/usr/sbin/lasthop|$prefix/sbin/lasthop|" "$file" | put 644 /dev/stdin "$share/doc/lasthop/${file#deploy/}"
done
gzip -9n <deploy/man/lasthop.8 | put 644 /dev/stdin "$share/man/man8/lasthop.8.gz"
gzip -9n <deploy/man/lasthop.yaml.5 | put 644 /dev/stdin "$share/man/man5/lasthop.yaml.5.gz"
gzip -9n <CHANGELOG.md | put 644 /dev/stdin "$share/doc/lasthop/changelog.gz"
"$native" completion bash | put 644 /dev/stdin "$share/bash-completion/completions/lasthop"
"$native" completion zsh | put 644 /dev/stdin "$zsh/_lasthop"
"$native" completion fish | put 644 /dev/stdin "$share/fish/vendor_completions.d/lasthop.fish"
[ "${QUIET:-}" ] || cat <<END
Installed; nothing was started. See first what would be done: $prefix/sbin/lasthop plan
Then: systemd-sysusers && systemd-tmpfiles --create && journalctl --update-catalog && systemctl daemon-reload && systemctl enable --now lasthop
END
