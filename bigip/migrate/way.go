package migrate

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"lasthop/bigip"
	"lasthop/routing"
)

// here is this host with the plan carried out.
type here struct {
	host     routing.Host
	policy   routing.Policy
	plan     routing.Plan
	outcomes map[netip.Addr]routing.Outcome
	present  map[netip.Addr]bool
	fib      *routing.FIB // nil until way needs it
}

func newHere(in routing.Inputs, plan routing.Plan) *here {
	h := &here{host: in.Host, policy: in.Policy, plan: plan,
		outcomes: map[netip.Addr]routing.Outcome{}, present: map[netip.Addr]bool{}}
	for _, a := range in.Host.Addrs {
		h.present[a.Prefix.Addr()] = true
	}
	for _, o := range plan.Outcomes {
		if _, ok := h.outcomes[o.Addr]; !ok {
			h.outcomes[o.Addr] = o
		}
	}
	return h
}

// decided returns the mode that the user gave to the address, or to its link.
func (h *here) decided(addr netip.Addr, link string) (routing.Return, bool) {
	for _, of := range []routing.ReturnPin{{Addr: addr}, {Link: link}} {
		for _, r := range h.policy.Returns {
			if r.Addr == of.Addr && (of.Addr.IsValid() || r.Link == of.Link) {
				return r.Mode, true
			}
		}
	}
	return "", false
}

// pinned reports whether the user gave the address a gateway of its own.
func (h *here) pinned(addr netip.Addr) bool {
	return slices.ContainsFunc(h.policy.Addresses, func(p routing.AddressPin) bool {
		return p.Addr == addr && p.Gateway.IsValid()
	})
}

// closed reports whether the user said that no router is on the link.
func (h *here) closed(link string) bool {
	return slices.ContainsFunc(h.policy.Gateways, func(g routing.GatewayPin) bool {
		return g.Link == link && g.None
	})
}

// way returns the way of a reply from an address to a client in a subnet. The
// client is the first address of it that is not the host's own.
func (h *here) way(from netip.Addr, to netip.Prefix) routing.Way {
	if h.fib == nil {
		h.fib = routing.NewFIB(routing.With(routing.Without(h.host, h.policy.Numbers),
			h.plan.State))
	}
	client := to.Masked().Addr().Next()
	for h.present[client] && to.Contains(client.Next()) {
		client = client.Next()
	}
	return h.fib.Way(routing.Query{Src: from, Dst: client})
}

// way says how replies to clients of the row's VLAN leave here, and what is
// missing for the right way. Replies from the row's address leave by link.
func (j *joiner) way(l *line, link string) {
	o := j.here.outcomes[l.addr]
	l.After = "not known"
	switch {
	case o.Status == routing.LocalOnly:
		l.After = "on-link"
	case o.Status != routing.Unresolved && o.Link != "":
		l.After = o.After.String()
	}
	switch {
	case l.Interface != link:
		j.otherVLAN(l, link)
	case o.Status == routing.Off && o.Reason == "vrf":
		l.After = "by its VRF"
	case o.Status == routing.Off:
		l.After = "as main routes them"
		if o.After.Link != "" {
			l.After += ": " + o.After.String()
		}
		if l.in.Return == bigip.ToLastHop && o.After.Link != link {
			l.needs("off", l.subject(), l.place.origin,
				"the BIG-IP sent replies back the way they came; here return is "+
					"off, and main's routes decide",
				routing.Flag("return", link+"=strict"))
		}
	case o.Status == routing.LocalOnly:
		if !j.here.closed(link) { // a bridge or tunnel may lead to a router, too
			j.gateway(l, link)
		}
	case o.Status == routing.Unresolved:
		j.unresolved(l, o.Reason, link)
	default:
		if path := j.here.plan.PathOf(o); path != nil {
			j.resolved(l, link, path)
		}
	}
}

// otherVLAN handles a VLAN that clients may come in by while replies leave by
// another: an address has one way.
func (j *joiner) otherVLAN(l *line, link string) {
	mode, decided := j.here.decided(l.addr, link)
	if decided && (mode != routing.MainFirst || l.Interface == "" || j.leavesBy(l)) {
		return
	}
	advice := routing.Flag("return", link+"=strict") + " if none of their clients come in by it"
	if l.Interface != "" {
		advice += "; " + routing.Flag("return", link+"=main-first") +
			" if those of its subnet do"
	}
	j.need.ret(link, routing.Strict)
	l.needs("other-vlan", l.subject(), l.place.origin,
		"virtual servers whose addresses belong to "+
			link+" served clients by this VLAN, too; here all their replies leave by "+
			link, advice)
}

// leavesBy reports whether a reply to a client in the VLAN's subnets leaves by
// the VLAN's interface.
func (j *joiner) leavesBy(l *line) bool {
	for _, p := range l.place.prefixes {
		if routing.FamilyOf(p.Addr()) == routing.FamilyOf(l.addr) {
			w := j.here.way(l.addr, p)
			l.After = w.String() + " to clients of its subnet"
			return w.Link == l.Interface
		}
	}
	return false
}

// resolved compares the path that was found with what the BIG-IP's files say.
func (j *joiner) resolved(l *line, link string, path *routing.Path) {
	var vias []netip.Addr
	for _, h := range path.Gateways() {
		if h.Via.IsValid() {
			vias = append(vias, h.Via)
		}
	}
	l.Gateway, l.GatewaySource = list(vias), cmp.Or(path.Detail, string(path.Source))
	_, decided := j.here.decided(l.addr, link)
	on, elsewhere := j.network.answered(l, routing.FamilyOf(l.addr))
	differs := len(on) == 1 && !slices.Contains(vias, on[0].addr)
	switch {
	case differs && l.in.Return == bigip.ToLastHopPool && !j.here.pinned(l.addr):
		l.differs(on[0], l.addr.String(), "the BIG-IP sent its replies to",
			j.need.address(l.addr, link, on[0].addr))
	case len(elsewhere) > 0 && !decided:
		j.need.ret(link, routing.Strict)
		l.needs("routed", l.subject(), elsewhere[0].origin,
			fmt.Sprintf("the BIG-IP sent replies to clients of this VLAN to %s (%s), "+
				"which is not on it; here they would leave by %s", list(elsewhere),
				elsewhere[0].from, link),
			routing.Flag("return", link+"=strict")+" if they shall leave the way they "+
				"came; "+routing.Flag("return", link+"=off")+" if main's routes "+
				"shall decide")
	case path.Source == routing.FromPin:
	case l.in.Return == bigip.ToLastHopPool && len(on)+len(elsewhere) == 0 && len(vias) > 0:
		l.needs("gateway-unknown", l.in.Value, l.in.Origin,
			"the BIG-IP sent replies to this last-hop-pool, of which the files name "+
				"no gateway; here they would leave by "+l.Gateway,
			"give the file that has it, or say which router is right: "+
				j.need.gateway(link, vias[len(vias)-1]))
	case len(on) > 1:
		j.twoRouters(l, link, on)
	case differs && (l.in.Return == bigip.Routed || on[0].isDefault()):
		l.differs(on[0], l.subject(), "the BIG-IP's router on it is",
			j.need.gateway(link, on[0].addr))
	}
}

// differs says that this host has another gateway than the BIG-IP had.
func (l *line) differs(r router, subject, what, flag string) {
	l.needs("gateway-differs", subject, r.origin,
		fmt.Sprintf("%s %s (%s); this host has %s (%s)",
			what, r, r.from, l.Gateway, l.GatewaySource), flag+", or the other one")
}

func (j *joiner) twoRouters(l *line, link string, on []router) {
	l.needs("two-routers", l.subject(), on[0].origin,
		"the BIG-IP knew several routers on it and answered each by itself: "+list(on)+
			"; here one of them gets all replies (return: "+
			"last-hop is not available yet)",
		j.need.gateway(link, on[0].addr)+
			", or another of them; best the address that they share (VRRP, HSRP)")
}

// unresolved says what the address wants that nothing on this host tells.
func (j *joiner) unresolved(l *line, reason routing.Code, link string) {
	switch reason {
	case "shadowed":
		l.manual("shadowed", link, "",
			"rules of somebody else answer in front of any place for ours",
			"lasthop plan says which rules")
		return
	case "link-down":
		l.needs("link-down", link, "", "the interface is down",
			routing.Command("ip link set dev "+link+" up"))
		return
	case "no-gateway":
	default:
		l.needs("no-owner", l.subject(), l.d.Origin,
			"the host cannot tell the interface of an "+
				"address that is in none of its subnets; the VLAN's is "+link,
			routing.Flag("address", "ADDR="+link)+" for each; the steps hold them").
			remedy = j.need.address(l.addr, link, netip.Addr{})
		known := func(p routing.Path) bool {
			return p.Link == link && p.Family == routing.FamilyOf(l.addr)
		}
		if slices.ContainsFunc(j.here.plan.Paths, known) {
			return
		}
	}
	j.gateway(l, link)
}

// gateway takes the gateway that the host does not know from the BIG-IP's
// files, if they have it.
func (j *joiner) gateway(l *line, link string) {
	f := routing.FamilyOf(l.addr)
	on, _ := j.network.answered(l, f)
	if len(on) == 0 {
		on = l.place.of(f)
	}
	subject := fmt.Sprintf("%s, %s, %s", l.subject(), link, f)
	switch len(on) {
	case 0:
		j.need.unknown(link, l.VLAN, f, l.place)
		l.needs("no-gateway", subject, l.place.origin,
			"neither this host nor the BIG-IP's files "+
				"name the router of this VLAN; Auto-Last-Hop needed none",
			routing.Flag("gateway", link+"=ADDR")+", or "+
				routing.Flag("gateway", link+"=none")+" if all clients are in its "+
				"subnet")
	case 1:
		l.Gateway, l.GatewaySource = on[0].addr.String(), on[0].from+", "+on[0].origin
		l.needs("gateway-from-big-ip", subject, on[0].origin,
			fmt.Sprintf("this host does not know "+
				"the router of this VLAN; the BIG-IP's is %s (%s)", on[0].addr,
				on[0].from), j.need.gateway(link, on[0].addr))
	default:
		j.twoRouters(l, link, on)
	}
}
