package routing

import (
	"cmp"
	"net/netip"
	"slices"
)

// builder holds what Build works on. host is the host without anything of ours:
// what others decided.
type builder struct {
	policy Policy
	host   Host
	own    State
	fib    *FIB // of host
	ideal  *FIB // of host with every path, as if nobody else had rules

	links          map[string]Link
	isolated       map[uint32]bool // tables of VRFs and VPNs
	assigned       map[netip.Addr][]Addr
	uplinks        map[linkFamily][]gateway
	connectedCache map[linkFamily][]netip.Prefix

	known []netip.Addr // of the host and of the listeners, sorted

	forgotten map[linkFamily]bool // whose held gateway no listener answers through

	rows     []row
	paths    []*path
	byKey    map[pathKey]*path
	findings []Finding
}

type linkFamily struct {
	link   string
	family Family
}

// row is one listener at one address on its way to an Outcome.
type row struct {
	Outcome
	path *path
	mode Return
	wild bool // it comes from a wildcard
}

// path is a Path in the making: a gateway that at least one listener answers
// through.
type path struct {
	gateway
	table  uint32
	needed bool
	covers []cover
}

// cover is the part of a path's prefixes with one mode of return.
type cover struct {
	mode     Return
	members  []netip.Addr // sorted, each once
	prefixes []netip.Prefix
}

type pathKey struct {
	link   string
	family Family
	hops   string
}

// Build decides: which path each listener's replies take, and the whole state
// that makes them take it. It depends on its arguments alone; what is ours on
// the host is used only to keep table numbers and held gateways. The policy
// must be valid.
func Build(h Host, listeners []Listener, binds []Bind, p Policy) Plan {
	b := resolveAll(h, listeners, p)
	b.coverPaths(binds)
	b.assignTables()
	l := b.layOut(b.paths)
	b.judge(l)
	needed := slices.DeleteFunc(slices.Clone(b.paths), func(p *path) bool { return !p.needed })
	l = b.layOut(needed)
	b.findings = append(b.findings, l.findings...)
	b.describe(l)
	b.lateFindings(l, binds)
	return b.plan(l)
}

// resolveAll finds the path of every listener. A held gateway that none answers
// through is forgotten: its table goes now, so the next sync would not know it,
// and would take the link for no uplink.
func resolveAll(h Host, listeners []Listener, p Policy) *builder {
	forgotten := map[linkFamily]bool{}
	for {
		b := newBuilder(h, p)
		b.forgotten = forgotten
		b.findUplinks()
		for _, l := range listeners {
			b.rows = append(b.rows, b.resolve(l)...)
		}
		if !b.forget() {
			return b
		}
	}
}

// forget marks the held gateways that no listener answers through, and says
// whether there are any.
func (b *builder) forget() bool {
	used := map[linkFamily]bool{}
	for _, r := range b.rows {
		if r.path != nil {
			used[linkFamily{r.path.link, r.path.family}] = true
		}
	}
	before := len(b.forgotten)
	for key, gateways := range b.uplinks {
		if gateways[0].source == FromHeld && !used[key] {
			b.forgotten[key] = true
		}
	}
	return len(b.forgotten) > before
}

func newBuilder(h Host, p Policy) *builder {
	b := &builder{policy: p, own: Owned(h, p.Numbers), host: Without(h, p.Numbers),
		links: map[string]Link{}, isolated: map[uint32]bool{},
		assigned: map[netip.Addr][]Addr{}, uplinks: map[linkFamily][]gateway{},
		byKey: map[pathKey]*path{}, connectedCache: map[linkFamily][]netip.Prefix{}}
	b.fib = NewFIB(b.host)
	for _, l := range b.host.Links {
		b.links[l.Name] = l
		if l.Table != 0 {
			b.isolated[l.Table] = true
		}
	}
	for _, r := range b.host.Routes {
		if r.Table != TableMain && r.IsDefault() && slices.ContainsFunc(r.Hops,
			func(h Hop) bool { return b.links[h.Link].hostLocal() }) {
			b.isolated[r.Table] = true
		}
	}
	for _, a := range b.host.Addrs {
		b.assigned[a.Prefix.Addr()] = append(b.assigned[a.Prefix.Addr()], a)
	}
	return b
}

func (b *builder) find(f Finding) { b.findings = append(b.findings, f) }

func (b *builder) sortedLinks() []Link {
	links := slices.Clone(b.host.Links)
	slices.SortFunc(links, func(x, y Link) int { return cmp.Compare(x.Name, y.Name) })
	return links
}

func (b *builder) inVRF(l Link) bool { return b.links[l.Master].Kind == "vrf" }

// plan puts the results together.
func (b *builder) plan(l layout) Plan {
	plan := Plan{State: l.state, Findings: b.findings}
	for _, p := range b.paths {
		out := Path{Link: p.link, Family: p.family, Hops: p.hops, Source: p.source,
			Detail: p.detail}
		if p.needed {
			out.Table = p.table
			for _, c := range p.covers {
				out.Prefixes = append(out.Prefixes, c.prefixes...)
			}
			slices.SortFunc(out.Prefixes, comparePrefix)
		}
		plan.Paths = append(plan.Paths, out)
	}
	for _, r := range b.rows {
		r.Path = 1 + slices.Index(b.paths, r.path)
		plan.Outcomes = append(plan.Outcomes, r.Outcome)
	}
	plan.Findings = uniqueFindings(plan.Findings)
	return plan
}
