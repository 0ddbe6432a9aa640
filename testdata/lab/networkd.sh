#!/bin/sh
# networkd.sh DIR, in a network namespace and a mount namespace of its own:
# makes what systemd-networkd and networkctl need of a machine, and is their bus
# until it is killed. DIR holds the *.network files. The script neither sees nor
# touches the machine's own /run, /etc/systemd and udev.
set -eu
dir=$1
mount -t tmpfs none /run
mount -t tmpfs none /etc/systemd
mkdir -p /run/dbus /run/systemd/netif/links /run/systemd/netif/leases
ln -s "$dir" /run/systemd/network
mount -t sysfs -o ro none /sys # read-only tells networkd not to wait for udev
# Ubuntu's networkd waits nevertheless, until udev's file of a link says that it
# is done.
mkdir -p /run/udev/data
for index in $(seq 99); do echo I:1 >/run/udev/data/n$index; done

# networkd gives up being root, which a user namespace with one user in it does
# not allow: its user is root here.
grep -v ^systemd-network: /etc/passwd >/run/passwd || :
echo systemd-network:x:0:0::/:/usr/sbin/nologin >>/run/passwd
mount --bind /run/passwd /etc/passwd

cat >/run/bus.conf <<'END'
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <policy context="default">
    <allow send_destination="*"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow own="*"/>
  </policy>
</busconfig>
END
exec dbus-daemon --config-file=/run/bus.conf --nofork --nopidfile --print-address
