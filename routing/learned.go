package routing

import (
	"fmt"
	"slices"
	"strings"
)

// This file has the findings about the mode last-hop.

// tell adds a finding if a listener that should have the mode last-hop does not
// have it, or may not have it.
func (t returning) tell(d *draft, r row) {
	why, subject := t.missing(), "last-hop"
	if why == "" && r.path != nil && !r.path.lastHop {
		l := t.links[r.path.link]
		why = fmt.Sprintf("%s is not an Ethernet-like link", l.Name)
		subject = l.Name
	}
	switch {
	case why != "":
		d.find(Warning.Finding("no-bpf", subject, "the mode last-hop is not available: "+
			"%s. lasthop uses strict instead: each reply goes to the gateway of its "+
			"path",
			why).Advise("add what is missing, or choose strict: %s",
			Flag("return", "IF=strict")))
	case r.path != nil && !t.host.LastHop.Known:
		d.find(Info.Finding("last-hop-unread", subject, "lasthop did not check whether "+
			"this kernel and user support the mode last-hop; the plan assumes that "+
			"they do").Advise("run plan or capture as root"))
	}
}

// learned finds what keeps a plan with the mode last-hop from working fully.
type learned struct {
	*describer
	state State
}

func (w learned) tell() {
	for _, p := range w.paths {
		if !p.lastHop || !p.needed {
			continue
		}
		w.mtu(p)
		w.reversePath(p)
	}
	for _, f := range w.state.Filters {
		w.inFront(f)
	}
}

// reversePath finds the links where strict rp_filter, or an equivalent nftables
// rule, drops requests: the table of their path answers for the source, and
// leads by another link.
func (w learned) reversePath(p *path) {
	for _, f := range w.state.Filters {
		if f.Link == p.link || !w.outwardIn(f.Link, p.family) {
			continue
		}
		if s := w.host.ruleset(p.family).Lookup; strings.HasSuffix(s, "fib saddr") {
			w.find(Warning.Finding("rp-filter-strict", p.family.String(), "the "+
				"packet filter looks up the route back to the source (%s): if "+
				"it compares the interface, it drops requests that come in by "+
				"another link than %s", s, p.link).
				Advise("write `fib saddr oif missing`, without iif"))
		}
		mode, _ := w.host.conf(f.Link, "rp_filter")
		if mode != 1 || p.family != IPv4 {
			continue
		}
		w.find(Warning.Finding("rp-filter-strict", f.Link, "strict rp_filter on %s "+
			"drops requests to the listeners of %s, because their table leads back "+
			"by %s",
			f.Link, p.name(), p.link).
			Advise("%s", Sysctl("net/ipv4/conf/"+f.Link+"/rp_filter", 2)))
	}
}

// inFront finds a foreign program or filter that sees packets before lasthop's
// does.
func (w learned) inFront(own Filter) {
	i := slices.IndexFunc(w.host.Filters, func(f Filter) bool {
		return f.Link == own.Link && f.Pref < own.Pref
	})
	if i < 0 {
		return
	}
	f := w.host.Filters[i]
	w.find(Info.Finding("program-in-front", own.Link, "another program sees the packets of "+
		"%s before lasthop's program. If it passes them on, everything works; if it "+
		"ends the chain, lasthop learns no routers there, and replies go to the gateway "+
		"of their path",
		own.Link).Advise("see what lasthop learned: lasthop status").At(f.String()))
}

// mtu reports that the ways of an answer have several MTUs.
func (w learned) mtu(p *path) {
	t := returning{w.topology}
	least, differs := t.smallestMTU(p), false
	for _, g := range append(t.candidates(p), p.gateway) {
		differs = differs ||
			Route{Hops: g.hops}.with(g.metrics).limit(w.links) > least
	}
	if differs {
		w.find(Info.Finding("mtu-differs", p.name(), "the links that replies of %s may "+
			"leave by have different MTUs: all routes with lasthop's program get "+
			"the smallest, %d", p.name(), least))
	}
}
