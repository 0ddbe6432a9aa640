package nginxconf

import (
	"net/netip"
	"slices"
)

// Restart returns a listen that NGINX cannot open by a reload, and the loaded
// one that is in its way. NGINX opens new sockets while the old ones are still
// open. For TCP the kernel refuses an address of a port next to the wildcard,
// the wildcard next to an address, and a second wildcard, unless both sockets
// have `reuseport`.
func (c Config) Restart(loaded Config) (is, was Listen, needed bool) {
	before, first := loaded.bound(), boundPort{}
	for at, x := range c.bound() {
		o, ok := before[at]
		clash := x.Addr != o.Addr && (x.Addr.IsUnspecified() || o.Addr.IsUnspecified()) &&
			!(slices.Contains(x.Params, "reuseport") &&
				slices.Contains(o.Params, "reuseport"))
		if ok && clash && (!needed || at.port < first.port) {
			is, was, needed, first = x, o, true, at
		}
	}
	return is, was, needed
}

// boundPort is a TCP port of one family.
type boundPort struct {
	port uint16
	six  bool
}

// bound returns a listen for each port that a socket is bound to: that of the
// wildcard, if there is one, since NGINX then opens no other socket.
func (c Config) bound() map[boundPort]Listen {
	out := map[boundPort]Listen{}
	put := func(x Listen, six bool) {
		for port := int(x.First); port <= int(x.Last); port++ {
			at := boundPort{uint16(port), six}
			if o, ok := out[at]; !ok || !o.Addr.IsUnspecified() {
				out[at] = x
			}
		}
	}
	for _, x := range c.Listens {
		if x.Transport != "tcp" {
			continue
		}
		put(x, x.Addr.Is6())
		if x.Addr == netip.IPv6Unspecified() && !x.IPv6Only {
			put(x, false)
		}
	}
	return out
}
