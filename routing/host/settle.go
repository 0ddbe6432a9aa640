package host

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"lasthop/routing"

	"golang.org/x/sys/unix"
)

const (
	settleTime = 5 * time.Second // the longest wait for a host that still changes
	// done after this time without a change: the kernel's work queues take
	// a few milliseconds
	settleIdle = 500 * time.Millisecond
	// and with a link that lost its carrier: the kernel handles that once a
	// second for all links of the machine (linkwatch)
	settleCarrier = 1500 * time.Millisecond
)

// settle waits until the kernel has finished, since it does a part of the work
// later from work queues. It removes what the kernel has added by itself and
// the host lacks, and lists what stays different.
func (b *rebuilding) settle() error {
	var last []string
	changed, end := time.Now(), time.Now().Add(settleTime)
	idle := settleIdle
	if slices.ContainsFunc(b.want.Links,
		func(l routing.Link) bool { return l.Up && !l.Carrier }) {
		idle = settleCarrier
	}
	for {
		r, err := readRouting(b.conn)
		if err != nil {
			return err
		}
		got := r.host
		missing, extra := b.compare(got)
		right, wrong := misordered(b.want.Routes, deciding(got.Routes))
		rest := slices.Concat(b.lines("", missing), b.lines("too much: ", extra),
			mapped(right, orderLine))
		if !slices.Equal(rest, last) {
			changed, last = time.Now(), rest
		}
		if len(rest) == 0 || time.Since(changed) > idle || time.Now().After(end) {
			b.lost = append(b.lost, rest...)
			return nil
		}
		b.change(unix.RTM_DELADDR, extra.addrs)
		b.change(unix.RTM_NEWADDR, missing.addrs)
		b.delete(slices.Concat(extra.routes, wrong))
		b.routes(slices.Concat(missing.routes, right))
		time.Sleep(time.Millisecond)
	}
}

// lines prints parts, with the reasons why they could not be made or removed.
func (b *rebuilding) lines(prefix string, p parts) []string {
	lines := slices.Concat(mapped(p.links, linkLine), mapped(p.addrs, addrLine),
		mapped(p.routes, routeLine), mapped(p.rules, ruleLine))
	for i, line := range lines {
		lines[i] = prefix + line
		if err := b.why[line]; err != nil {
			lines[i] += ": " + err.Error()
		}
	}
	return lines
}

// parts are objects of a host.
type parts struct {
	links  []routing.Link
	addrs  []routing.Addr
	routes []routing.Route
	rules  []routing.Rule
}

// compare returns what is wanted and missing, and what is there and not wanted.
// Further links do not count: drivers and lasthop made them.
func (b *rebuilding) compare(got routing.Host) (missing, extra parts) {
	missing.links, _ = lacking(b.want.Links, got.Links, linkLine)
	missing.addrs, extra.addrs = lacking(b.want.Addrs, got.Addrs, addrLine)
	missing.routes, extra.routes = lacking(b.want.Routes, deciding(got.Routes), routeLine)
	missing.rules, extra.rules = lacking(b.want.Rules, got.Rules, ruleLine)
	return missing, extra
}

// deciding leaves out multicast and anycast routes, which the kernel makes
// itself. The other ends of the links have no other routes.
func deciding(routes []routing.Route) []routing.Route {
	return slices.DeleteFunc(slices.Clone(routes), func(r routing.Route) bool {
		return r.Type == routing.Multicast || r.Type == routing.Anycast
	})
}

// lacking returns what only one of two lists has, by its line.
func lacking[T any](want, got []T, line func(T) string) (missing, extra []T) {
	left := make(map[string]int, len(got))
	for _, x := range got {
		left[line(x)]++
	}
	for _, x := range want {
		if s := line(x); left[s] > 0 {
			left[s]--
		} else {
			missing = append(missing, x)
		}
	}
	for _, x := range got {
		if s := line(x); left[s] > 0 {
			left[s]--
			extra = append(extra, x)
		}
	}
	return missing, extra
}

// misordered returns the routes of one key that are all there, but in another
// order: the first one that can answer does.
func misordered(want, got []routing.Route) (right, wrong []routing.Route) {
	wanted, have := sharers(want), sharers(got)
	for _, r := range want {
		key := shared{r.RouteKey, r.Source()}
		a, b := wanted[key], have[key]
		delete(wanted, key)
		missing, extra := lacking(a, b, routeLine)
		if len(missing)+len(extra) == 0 &&
			!slices.Equal(mapped(a, routeLine), mapped(b, routeLine)) {
			right, wrong = append(right, a...), append(wrong, b...)
		}
	}
	return right, wrong
}

// shared is what routes that the kernel tries one after the other have in
// common.
type shared struct {
	routing.RouteKey
	from netip.Prefix
}

// sharers returns the routes that are not alone with their key.
func sharers(routes []routing.Route) map[shared][]routing.Route {
	out := map[shared][]routing.Route{}
	for _, r := range routes {
		if !kernelsOwn(r) {
			key := shared{r.RouteKey, r.Source()}
			out[key] = append(out[key], r)
		}
	}
	maps.DeleteFunc(out, func(_ shared, same []routing.Route) bool { return len(same) < 2 })
	return out
}

func linkLine(l routing.Link) string {
	state := "down"
	switch {
	case l.Up && l.Carrier:
		state = "up"
	case l.Up:
		state = "up without carrier"
	}
	return fmt.Sprintf("link %s %s mtu %d group %d", l.Name, state, l.MTU, l.Group)
}

func addrLine(a routing.Addr) string {
	line := fmt.Sprintf("address %s of %s", a.Prefix, a.Link)
	if a.Peer.IsValid() {
		line += fmt.Sprintf(" peer %s", a.Peer)
	}
	if a.NoPrefix {
		line += " noprefixroute"
	}
	return line + map[uint8]string{routing.ScopeLink: " scope link",
		routing.ScopeHost: " scope host"}[a.Scope]
}

// routeLine returns the part of a route that decides. It leaves out the flag
// onlink.
func routeLine(r routing.Route) string {
	r.Hops = slices.Clone(r.Hops)
	flags := ""
	for i := range r.Hops {
		h := &r.Hops[i]
		h.OnLink = false
		if h.Dead || h.LinkDown {
			flags += fmt.Sprintf(" (%s down)", h.Link)
		}
	}
	return routing.Op{Route: &r}.String() + flags
}

func orderLine(r routing.Route) string { return "order of " + routeLine(r) }

func ruleLine(r routing.Rule) string { return routing.Op{Rule: &r}.String() }

func mapped[T any](list []T, line func(T) string) (out []string) {
	for _, x := range list {
		out = append(out, line(x))
	}
	return out
}
