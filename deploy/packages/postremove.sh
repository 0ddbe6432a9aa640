#!/bin/sh
# For dpkg, after the files are gone: remove, purge, upgrade NEW. A purge leaves
# only the user: its number may own files elsewhere, and must not be given to
# another user.
set -e
if [ "${1:-}" = purge ]; then
	if [ -e /run/lasthop-undo/clear.sh ]; then
		sh /run/lasthop-undo/clear.sh || :
	fi
	rm -rf /run/lasthop /run/lasthop-undo /etc/lasthop /etc/iproute2/rt_tables.d/lasthop.conf
	rmdir /etc/iproute2/rt_tables.d /etc/iproute2 2>/dev/null || :
	if command -v deb-systemd-helper >/dev/null; then
		deb-systemd-helper purge lasthop.service
	fi
fi
if [ -d /run/systemd/system ]; then
	systemctl --system daemon-reload || :
fi
