package report

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// bundle is all listeners whose replies belong to one path. Without a path they
// are the unresolved ones of one link, which may be "".
type bundle struct {
	path      *routing.Path
	link      string
	family    routing.Family
	listeners []routing.Outcome
	before    []flow
	after     []flow
}

// flow is how many of a bundle's listeners reply one way.
type flow struct {
	way       routing.Way
	listeners int
}

// bundles sorts the listeners whose replies leave through a gateway by path.
// Paths of one link follow each other; the unresolved listeners come last.
func bundles(p routing.Plan) []bundle {
	var all []bundle
	for i := range p.Paths {
		path := &p.Paths[i]
		all = append(all, bundle{path: path, link: path.Link, family: path.Family})
	}
	slices.SortStableFunc(all, func(a, b bundle) int { return cmp.Compare(a.link, b.link) })
	for _, o := range p.Outcomes {
		if o.Status == routing.LocalOnly || o.Status == routing.Off {
			continue
		}
		one := bundle{path: p.PathOf(o), link: o.Link, family: routing.FamilyOf(o.Addr)}
		i := slices.IndexFunc(all, func(b bundle) bool {
			return b.path == one.path &&
				(b.path != nil || b.link == one.link && b.family == one.family)
		})
		if i < 0 {
			i = len(all)
			all = append(all, one)
		}
		all[i].listeners = append(all[i].listeners, o)
	}
	for i := range all {
		all[i].before = flows(all[i].listeners, func(o routing.Outcome) routing.Way {
			return o.Before
		})
		all[i].after = flows(all[i].listeners, func(o routing.Outcome) routing.Way {
			return o.After
		})
	}
	return all
}

// gateway names the gateway of a bundle, and its source.
func (b bundle) gateway() (name, source string) {
	if b.path == nil {
		return "not known", ""
	}
	return gatewayName(*b.path), gatewaySource(*b.path)
}

// takes reports whether a way is that of the path: by its gateways, and by no
// other, whichever the kernel chooses.
func takes(p routing.Path, w routing.Way) bool {
	own := mapped(p.Gateways(), func(h routing.Hop) string {
		return routing.Hop{Link: h.Link, Via: h.Via}.String()
	})
	hops := []string{routing.Hop{Link: w.Link, Via: w.Via}.String()}
	if w.More != "" {
		hops = append(hops, strings.Split(w.More, ", ")...)
	}
	return w.Type == routing.Unicast &&
		!slices.ContainsFunc(hops, func(h string) bool { return !slices.Contains(own, h) })
}

// flows counts ways, the most frequent first.
func flows(outcomes []routing.Outcome, way func(routing.Outcome) routing.Way) []flow {
	var out []flow
	for _, o := range outcomes {
		w := way(o)
		w.Table = 0
		i := slices.IndexFunc(out, func(f flow) bool { return f.way == w })
		if i < 0 {
			i = len(out)
			out = append(out, flow{way: w})
		}
		out[i].listeners++
	}
	slices.SortStableFunc(out, func(a, b flow) int {
		return cmp.Compare(b.listeners, a.listeners)
	})
	return out
}

// sentence describes flows: "eth0 via 10.0.0.1", of several "eth0 via 10.0.0.1
// (12), wg0, on-link (3)".
func sentence(flows []flow) string {
	parts := mapped(flows, func(f flow) string {
		if len(flows) > 1 {
			return fmt.Sprintf("%s (%s)", f.way, number(f.listeners))
		}
		return f.way.String()
	})
	return cmp.Or(some(parts, 4), "-")
}

// addrs names the bundle's addresses: the first, and how many more.
func (b bundle) addrs() string {
	all := mapped(b.listeners, func(o routing.Outcome) netip.Addr { return o.Addr })
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	switch len(all) {
	case 0:
		return "no listener"
	case 1:
		return all[0].String()
	}
	return fmt.Sprintf("%s and %s more", all[0], number(len(all)-1))
}

// number writes a number for people: 12,345.
func number(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
