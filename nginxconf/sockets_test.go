package nginxconf

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// sockets says which sockets NGINX opens for a configuration that it accepts,
// as `ss` prints them: "tcp 0.0.0.0:80", "tcp *:80" for one of both families. A
// wildcard absorbs the addresses of its module, family, transport and port, but
// those with a bind(2) of their own.
func sockets(listens []Listen) []string {
	type group struct {
		context, transport string
		six                bool
		port               uint16
	}
	groups := map[group]map[netip.Addr]*Listen{}
	own := map[group]map[netip.Addr]bool{}
	for i := range listens {
		x := &listens[i]
		for port := int(x.First); port <= int(x.Last); port++ {
			g := group{x.Context, x.Transport, x.Addr.Is6(), uint16(port)}
			if groups[g] == nil {
				groups[g], own[g] = map[netip.Addr]*Listen{}, map[netip.Addr]bool{}
			}
			groups[g][x.Addr] = x
			own[g][x.Addr] = own[g][x.Addr] ||
				slices.ContainsFunc(x.Params, bindsItself)
		}
	}
	var found []string
	for g, addrs := range groups {
		wildcard := netip.IPv4Unspecified()
		if g.six {
			wildcard = netip.IPv6Unspecified()
		}
		for a, x := range addrs {
			if addrs[wildcard] == nil || a == wildcard || own[g][a] {
				found = append(found, g.transport+" "+ssAddr(a, !x.IPv6Only)+
					fmt.Sprint(g.port))
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// bindsItself knows the parameters that make NGINX bind an address on its own
// (ngx_http_core_listen, lsopt.bind).
func bindsItself(param string) bool {
	name, _, _ := strings.Cut(param, "=")
	return slices.Contains([]string{"bind", "backlog", "rcvbuf", "sndbuf", "deferred",
		"fastopen", "ipv6only", "reuseport", "so_keepalive", "multipath", "accept_filter",
		"setfib"}, name)
}

func ssAddr(a netip.Addr, dual bool) string {
	switch {
	case a.Is6() && a.IsUnspecified() && dual:
		return "*:"
	case a.Is6():
		return "[" + a.String() + "]:"
	}
	return a.String() + ":"
}

// parseSS reads `ss -ltunH`. A socket of an IPv4-mapped address takes IPv4.
func parseSS(out string) []string {
	var found []string
	mapped := regexp.MustCompile(`^\[::ffff:([0-9.]+)\]`)
	for line := range strings.Lines(out) {
		if f := strings.Fields(line); len(f) >= 5 {
			found = append(found, f[0]+" "+mapped.ReplaceAllString(f[4], "$1"))
		}
	}
	slices.SortFunc(found, cmp.Compare[string])
	return slices.Compact(found)
}
