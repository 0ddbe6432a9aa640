#!/bin/sh
# After the files are in place. dpkg: configure [OLD]; rpm: 1 new, 2 upgrade;
# apk: NEW [OLD]. It enables and starts nothing: the administrator reads
# `lasthop plan` first. After an upgrade it restarts a running service, whose
# routes stay meanwhile.
set -e
PATH=/usr/sbin:$PATH # before a program of `make install PREFIX=/usr/local`

# fine: the new program would start with these settings. It does not read
# NGINX's own files.
fine() {
	conf=$(mktemp)
	echo "events {}" >"$conf"
	lasthop test -c "$conf" >/dev/null || { rm "$conf"; return 1; }
	rm "$conf"
}

# restart: a service that would not start again goes on as it is.
restart() {
	if ! systemctl -q is-active lasthop.service || fine; then
		$(command -v deb-systemd-invoke || echo systemctl) try-restart lasthop.service || :
	else
		echo "lasthop: warning: the service goes on with the old program: it would not start with these settings"
		echo "lasthop: correct them, then: systemctl restart lasthop"
	fi
}

case ${1:-} in
abort-*) exit 0 ;;
esac

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers lasthop.conf
fi
if command -v systemd-tmpfiles >/dev/null && id lasthop >/dev/null 2>&1; then
	systemd-tmpfiles --create lasthop.conf
fi
if command -v deb-systemd-helper >/dev/null; then
	deb-systemd-helper update-state lasthop.service # so that a purge knows the links of `systemctl enable`
fi
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload || :
	if [ "${1:-}" = 2 ] || [ -n "${2:-}" ]; then
		restart
	fi
fi
