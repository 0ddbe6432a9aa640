#!/bin/bash
# Builds the image of deploy/container twice, and runs it in a network namespace
# of its own next to a real NGINX. The kernel says what its containers did.
#
# usage: image.sh      prints "ok STEP", or "FAIL STEP: why"; needs root
#
# buildah builds it and podman runs it, on file systems that are thrown away. crun
# runs the container that shares the processes of the host, as the DaemonSet of
# deploy/kubernetes does, with the rights of the manifest: podman needs control
# groups for that, which a namespace inside of a container does not have.
#
# LAB_WAIT     multiplies every time limit
set -eu -o pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
tree=$(cd "$here/../.." && pwd)
. "$here/clients.sh"

outside() {
	"$here/../lab/deps.sh"
	"$here/../lab/deps.sh" image
	local work
	work=$(mktemp -d)
	trap "rm -rf --one-file-system '$work'" EXIT
	trap 'exit 1' HUP INT TERM
	chmod 755 "$work"
	mkdir "$work/context"
	(cd "$tree" && cp --parents LICENSE deploy/THIRD-PARTY-LICENSES "$work/context" &&
		CGO_ENABLED=0 go build -trimpath -o "$work/context/lasthop" ./cmd/lasthop)
	timeout -k 5 $((300 * wait)) unshare --net --mount --cgroup --pid --fork --kill-child --mount-proc \
		--propagation private "$0" --inside "$work" >"$work/out" 2>"$work/said" </dev/null || :
	grep -vx end "$work/out" || :
	[ "$(tail -n 1 "$work/out")" = end ] || { tail -n 20 "$work/said" >&2; echo "FAIL image: it ended early"; exit 1; }
	! grep -q ^FAIL "$work/out"
}

# store: where buildah and podman keep what they make.
store() { echo --root "$work/store" --runroot /run/containers; }

inside() { # inside WORK
	work=$1 image=lasthop
	export STORAGE_DRIVER=vfs BUILDAH_ISOLATION=chroot
	mount -t tmpfs tmpfs /run
	mount -t sysfs sysfs /sys
	mount -t cgroup2 cgroup2 /sys/fs/cgroup
	mount -t tmpfs tmpfs /etc/nginx
	mkdir -p /run/lasthop /run/nginx /run/netns /run/settings "$work/store"
	ip link set lo up
	uplinks 0 1 2
	echo 'interfaces: {eth1: {gateways: [10.0.1.1]}, eth2: {gateways: [10.0.2.1]}}' >/run/settings/lasthop.yaml
	listens 0 1
	nginx
	local step
	for step in $steps; do alone $step; done
	[ ! -e /run/nginx/pid ] || kill "$(cat /run/nginx/pid)"
	echo end
}

# listens N...: writes NGINX's file.
listens() {
	local n
	{
		echo "user root; pid /run/nginx/pid; error_log /run/nginx/log; events {}"
		echo "http { access_log off; server {"
		for n in "$@"; do echo "listen 10.0.$n.100:80;"; done
		echo "} }"
	} >/etc/nginx/nginx.conf
}

# contain ARGUMENT...: a container in the network of this namespace that may write
# nothing, has no capability, and sees NGINX's files. The limits are smaller than
# podman's own, which this user may not have here.
contain() {
	podman $(store) run --rm --runtime crun --cgroup-manager=cgroupfs --cgroups=disabled \
		--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network=host --read-only --cap-drop=all \
		--volume /etc/nginx:/etc/nginx:ro --volume /run/settings:/etc/lasthop:ro "$@"
}

# admin ARGUMENT...: the same as root with one capability, and the lock.
admin() { contain --user 0 --cap-add=NET_ADMIN --volume /run/lasthop:/run/lasthop "$@"; }

# The same program gives the same image, whenever it was built.
do_builds_the_same() {
	local ids
	ids=$(build; find "$work/context" -exec touch {} +; build)
	[ "$(uniq <<<"$ids" | wc -l)" = 1 ] || fail "two images: $ids"
	now test "$(podman $(store) image inspect -f '{{.Config.User}}' $image)" = 65534:65534
	now test "$(podman $(store) image inspect -f '{{index .Labels "org.opencontainers.image.licenses"}}' $image)" = Apache-2.0
}
build() { # prints its number
	local number=$work/number
	buildah $(store) bud --quiet --timestamp 0 --iidfile "$number" -f "$tree/deploy/container/Containerfile" \
		-t $image "$work/context" >&2
	cat "$number"
	echo
}

# As the image's own user: it sees all, and changes nothing.
do_plan() {
	local said
	said=$(contain $image) || fail "$said"
	grep -q "10.0.1.100 .* eth0 via 10.0.0.1 -> eth1 via 10.0.1.1" <<<"$said" || fail "$said"
	now not ours
	now not contain $image check
}

# The kernel is asked in a network namespace of a user namespace of its own.
do_prove() {
	local said
	said=$(contain $image plan --prove) || fail "$said"
	grep -q "Proved by the kernel .*" <<<"$said" && grep -q "all as planned" <<<"$said" || fail "$said"
	now not ours
}

do_apply() {
	now not contain --user 0 --volume /run/lasthop:/run/lasthop $image apply
	now not ours
	now admin $image apply
	now leaves 1 1
	now leaves 0 0
	now contain $image check
	now admin $image clear
	now not ours
	rm -f /run/lasthop/*
	chown 65534 /run/lasthop # podman gives the capability to this user, too
	now contain --cap-add=NET_ADMIN --volume /run/lasthop:/run/lasthop $image apply
	now leaves 1 1
	now contain --cap-add=NET_ADMIN --volume /run/lasthop:/run/lasthop $image clear
	now not ours
	chown 0 /run/lasthop
	rm -f /run/lasthop/*
}

# It does not see NGINX's processes, so it follows the files.
do_run() {
	now admin --name run --detach $image run
	soon leaves 1 1
	soon contain --volume /run/lasthop:/run/lasthop $image status
	now leaves 2 0
	listens 0 1 2
	soon leaves 2 2
	now podman $(store) stop -t 5 run
	now leaves 2 2
	now admin $image clear
	now leaves 2 0
	listens 0 1
}

# oci CAPABILITY...: the bundle of a container that sees the processes of the host.
oci() {
	local name added=
	for name in "$@"; do added+=${added:+, }\"CAP_$name\"; done
	cat >"$work/bundle/config.json" <<-END
		{"ociVersion": "1.0.0", "root": {"path": "rootfs", "readonly": true},
		 "process": {"user": {"uid": 0, "gid": 0}, "cwd": "/", "args": ["/lasthop", "run"], "noNewPrivileges": true,
		  "capabilities": {"bounding": [$added], "effective": [$added], "permitted": [$added]}},
		 "linux": {"namespaces": [{"type": "mount"}]},
		 "mounts": [
		  {"destination": "/proc", "type": "proc", "source": "proc"},
		  {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
		  {"destination": "/etc/lasthop", "type": "bind", "source": "/run/settings", "options": ["rbind", "ro"]},
		  {"destination": "/run/lasthop", "type": "bind", "source": "/run/lasthop", "options": ["rbind", "rw"]}]}
	END
}
pod() { crun --root /run/crun --cgroup-manager=disabled "$@"; }

# bundle CAPABILITY...: starts it; it ends with the step.
bundle() {
	local container
	if [ ! -e "$work/bundle" ]; then
		mkdir "$work/bundle"
		container=$(buildah $(store) from $image)
		cp -r "$(buildah $(store) mount "$container")" "$work/bundle/rootfs"
		mkdir -p "$work"/bundle/rootfs/{proc,dev,etc/lasthop,run/lasthop}
	fi
	oci "$@"
	(cd "$work/bundle" && pod run lasthop) >/run/log 2>&1 &
	trap "pod kill lasthop TERM || cat /run/log; wait $! || :" EXIT
}

# The DaemonSet's container has no file of NGINX. It follows each reload, not the
# files.
do_daemonset() {
	local rights
	rights=$(sed -n 's/^ *add: \[\(.*\)\]$/\1/p' "$tree/deploy/kubernetes/base/daemonset.yaml")
	now test "$rights" = "NET_ADMIN, SYS_PTRACE"
	bundle ${rights//,/}
	soon leaves 1 1
	soon "$work/context/lasthop" status # by the lock that it shares with the host
	listens 0 1 2
	sleep 1
	now leaves 2 0
	nginx -s reload
	soon leaves 2 2
}

# Without one of its rights it cannot do that, and the log says so.
do_daemonset_without() {
	now "$work/context/lasthop" clear
	bundle NET_ADMIN
	soon grep -q SYS_PTRACE /run/log
	now not leaves 1 1
	now not "$work/context/lasthop" status
}

steps="builds_the_same plan prove apply run daemonset daemonset_without"

case ${1:-} in
--inside) inside "$2" ;;
*) outside ;;
esac
