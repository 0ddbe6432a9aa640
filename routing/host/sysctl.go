package host

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"lasthop/routing"
)

// hostSysctls are the settings of a namespace that change what is planned or
// what check reports; linkSysctls are those of each link.
var (
	hostSysctls = []string{"ipv4.ip_forward", "ipv4.ip_nonlocal_bind", "ipv4.fwmark_reflect",
		"ipv4.tcp_fwmark_accept", "ipv4.tcp_l3mdev_accept", "ipv4.nexthop_compat_mode",
		"ipv6.ip_nonlocal_bind", "ipv6.fwmark_reflect"}
	linkSysctls = []string{"ipv4.conf.*.forwarding", "ipv4.conf.*.rp_filter",
		"ipv4.conf.*.arp_ignore", "ipv4.conf.*.arp_announce", "ipv4.conf.*.arp_filter",
		"ipv4.conf.*.src_valid_mark", "ipv4.conf.*.ignore_routes_with_linkdown",
		"ipv6.conf.*.forwarding", "ipv6.conf.*.accept_ra",
		"ipv6.conf.*.ignore_routes_with_linkdown", "ipv6.conf.*.keep_addr_on_down"}
)

// readSysctls reads them from the namespace's own view of /proc/sys/net, which
// is the reading thread's. It leaves out a setting that this kernel lacks.
func readSysctls(h *routing.Host) error {
	h.Sysctls = map[string]string{}
	for _, key := range sysctlKeys(h.Links) {
		// Link names may hold dots: only the dots around them separate.
		data, err := os.ReadFile(filepath.Join("/proc/sys/net", key.path))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		h.Sysctls[key.name] = strings.TrimSpace(string(data))
	}
	return nil
}

type sysctlKey struct{ name, path string }

func sysctlKeys(links []routing.Link) []sysctlKey {
	var keys []sysctlKey
	slashes := func(s string) string { return strings.ReplaceAll(s, ".", "/") }
	for _, s := range hostSysctls {
		keys = append(keys, sysctlKey{s, slashes(s)})
	}
	names := []string{"all", "default"}
	for _, l := range links {
		names = append(names, l.Name)
	}
	for _, s := range linkSysctls {
		before, after, _ := strings.Cut(s, "*")
		for _, name := range names {
			keys = append(keys, sysctlKey{before + name + after,
				slashes(before) + name + slashes(after)})
		}
	}
	return keys
}
