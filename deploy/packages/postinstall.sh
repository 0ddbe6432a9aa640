#!/bin/sh
# After the files are in place. dpkg: configure [OLD]; rpm: 1 new, 2 upgrade; apk: NEW [OLD]. Nothing is enabled or started: the
# administrator looks at `lasthop plan` first. After an upgrade a service that runs is restarted: its routes stay meanwhile.
set -e
case ${1:-} in
abort-*) exit 0 ;;
esac

if command -v systemd-sysusers >/dev/null; then
	systemd-sysusers lasthop.conf
fi
if command -v systemd-tmpfiles >/dev/null; then
	systemd-tmpfiles --create lasthop.conf
fi
if command -v deb-systemd-helper >/dev/null; then
	deb-systemd-helper update-state lasthop.service # so that a purge knows the links of `systemctl enable`
fi
if [ -d /run/systemd/system ]; then
	invoke=$(command -v deb-systemd-invoke || echo systemctl)
	systemctl --system daemon-reload || :
	if [ "${1:-}" = 2 ] || [ -n "${2:-}" ]; then
		$invoke try-restart lasthop.service || :
	fi
fi
