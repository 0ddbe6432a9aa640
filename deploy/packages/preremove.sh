#!/bin/sh
# Before the files go. dpkg: remove, upgrade NEW; rpm: 0 removal, 1 upgrade;
# apk: VERSION. An upgrade stops nothing. A removal stops the service and keeps
# lasthop's routes and rules in the kernel, for NGINX still runs; the script
# that removes them outlives the program.
set -e
PATH=/usr/sbin:$PATH # before a program of `make install PREFIX=/usr/local`
case ${1:-} in
upgrade | failed-upgrade | deconfigure | 1) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
	invoke=$(command -v deb-systemd-invoke || echo systemctl)
	$invoke stop lasthop.service || :
	if [ "${1:-}" = 0 ]; then
		$invoke --no-reload disable lasthop.service || : # of rpm; dpkg's purge does it
	fi
fi
if lasthop status >/dev/null 2>&1 || [ $? = 2 ]; then
	echo "lasthop: warning: a lasthop still runs, and puts back what is deleted from the kernel: end it"
fi
keep=/run/lasthop-undo/clear.sh # root's, as the undo scripts of `lasthop apply`
rm -f "$keep"                   # of an earlier removal
commands=$(lasthop clear --dry-run | grep -E '^(ip|tc) ') || : # stderr says what is wrong with the settings
if [ -n "$commands" ]; then
	mkdir -p "${keep%/*}"
	{
		echo "#!/bin/sh"
		echo "# Removes what lasthop had in the kernel when its package was removed. For root."
		printf '%s\n' "$commands"
		echo "rm -rf /sys/fs/bpf/lasthop"
	} >"$keep"
	echo "lasthop: its routes and rules stay until a reboot, so that NGINX's replies keep their path."
	echo "lasthop: to remove them: sh $keep"
	command -v ip >/dev/null || echo "lasthop: warning: that needs ip, and so does a purge: install iproute2 first"
fi
