package main_test

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"lasthop/routing"
)

// TestHeeds: a change that a decision does not heed does not change it. The
// host of each scenario gets routes in tables that no reply is looked up in,
// and links without an address. Each of them, and each other object that does
// not count there, goes and changes.
func TestHeeds(t *testing.T) {
	t.Parallel()
	tried := map[string]int{}
	eachScenario(t, func(t *testing.T, s *scenario) {
		host := furnished(s.sim.Host)
		d := s.decide(t, host)
		w := &heedless{t, s, host, d.Heeds(), planLines(d), tried}
		w.routes()
		w.links()
		w.addrs()
	})
	for _, what := range []string{"route", "link", "link down", "new link", "address"} {
		if tried[what] < 100 {
			t.Errorf("%s: tried %d times, which proves nothing", what, tried[what])
		}
	}
}

// furnished adds to a host what decides nothing.
func furnished(h routing.Host) routing.Host {
	h.Routes, h.Links = slices.Clone(h.Routes), slices.Clone(h.Links)
	h.Rules, h.Addrs = slices.Clone(h.Rules), slices.Clone(h.Addrs)
	for i, name := range []string{"spare0", "spare1"} {
		h.Links = append(h.Links, routing.Link{Index: 4000 + i, Name: name, Kind: "veth",
			MTU: 1500, Up: true, Carrier: true})
		h.Addrs = append(h.Addrs, routing.Addr{Link: name, Scope: routing.ScopeLink,
			Prefix: netip.MustParsePrefix("fe80::77:1/64")})
	}
	local := routing.Route{Type: routing.Unicast, Protocol: 2,
		Hops: []routing.Hop{{Link: "spare0", Weight: 1}}}
	local.Table, local.Dst = routing.TableMain, netip.MustParsePrefix("fe80::/64")
	h.Routes = append(h.Routes, local)
	in, from := routing.NewRule(routing.IPv4, 4000, 4712), routing.NewRule(routing.IPv4, 4001,
		4713)
	in.IIF, from.From = "none0", netip.MustParsePrefix("198.18.99.1/32")
	h.Rules = append(h.Rules, in, from)
	for _, r := range h.Routes {
		if r.Table != routing.TableMain || !r.IsDefault() || r.Protocol == 76 {
			continue
		}
		r.Dst = netip.MustParsePrefix("198.18.77.0/24")
		if r.Hops != nil && r.Hops[0].Via.Is6() {
			r.Dst = netip.MustParsePrefix("2001:db8:77::/48")
		}
		for _, r.Table = range []uint32{4711, 4712, 4713} {
			if len(r.Hops) > 0 && r.Hops[0].Via.IsValid() {
				h.Routes = append(h.Routes, r)
			}
		}
	}
	return h
}

// heedless tries changes that a decision does not heed.
type heedless struct {
	t     *testing.T
	s     *scenario
	host  routing.Host
	heeds routing.Heeds
	want  string
	tried map[string]int
}

func planLines(d routing.Decision) string {
	return fmt.Sprint(d.Plan.State, "\n", reportLines(d.Plan), d.Plan.Paths)
}

// try wants the same plan on another host.
func (w *heedless) try(what, which string, h routing.Host) {
	w.t.Helper()
	w.tried[what]++
	d, err := routing.Decide(w.s.on(h))
	if err != nil {
		w.t.Errorf("%s %s: %v", what, which, err)
		return
	}
	if diff := cmp.Diff(w.want, planLines(d)); diff != "" {
		w.t.Errorf("%s %s, which does not count: -before +after\n%s", what, which, diff)
	}
}

// routes takes each route away that does not count.
func (w *heedless) routes() {
	for i, r := range w.host.Routes {
		if !w.heeds.Route(r) {
			h := w.host
			h.Routes = slices.Delete(slices.Clone(w.host.Routes), i, i+1)
			w.try("route", r.String(), h)
		}
	}
}

// links takes down and deletes each link that does not count, and adds other
// links.
func (w *heedless) links() {
	for i, l := range w.host.Links {
		by := func(r routing.Route) bool {
			return slices.ContainsFunc(r.Hops,
				func(x routing.Hop) bool { return x.Link == l.Name })
		}
		if w.heeds.Link(l.Name) || slices.ContainsFunc(w.host.Routes,
			func(r routing.Route) bool { return by(r) && w.heeds.Route(r) }) {
			continue // or the kernel reports the route
		}
		h := w.host
		h.Links = slices.Clone(w.host.Links)
		h.Links[i].Up, h.Links[i].Carrier, h.Links[i].MTU = !l.Up, !l.Carrier, 1400
		w.try("link down", l.Name, h)
		h.Links = slices.Delete(slices.Clone(w.host.Links), i, i+1)
		h.Routes = slices.DeleteFunc(slices.Clone(w.host.Routes), by)
		h.Addrs = slices.DeleteFunc(slices.Clone(w.host.Addrs),
			func(a routing.Addr) bool { return a.Link == l.Name })
		w.try("link", l.Name, h)
	}
	for _, kind := range []string{"veth", "bridge", "dummy", "vlan"} {
		l := routing.Link{Index: 4711, Name: "new0", Kind: kind, MTU: 1500, Up: true,
			Carrier: true}
		if h := w.host; !w.heeds.Link(l.Name) {
			h.Links = append(slices.Clone(w.host.Links), l)
			w.try("new link", kind, h)
		}
	}
}

// addrs takes each address away that does not count.
func (w *heedless) addrs() {
	for i, a := range w.host.Addrs {
		if !w.heeds.Addr(a.Link, a.Prefix) {
			h := w.host
			h.Addrs = slices.Delete(slices.Clone(w.host.Addrs), i, i+1)
			w.try("address", a.Link+" "+a.Prefix.String(), h)
		}
	}
}
