package bigip

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"lasthop/routing"
)

// way says how replies to clients of the row's VLAN leave here, and what is
// missing for the right way.
func (j *joiner) way(l *line, owner string) {
	o := j.outcomes[l.addr]
	l.After = "not known"
	switch {
	case o.Status == routing.LocalOnly:
		l.After = "on-link"
	case o.Status != routing.Unresolved && o.Link != "":
		l.After = o.After.String()
	}
	if l.Interface != owner {
		j.otherVLAN(l, owner)
		return
	}
	switch {
	case o.Status == routing.Off && o.Reason == "vrf":
		l.After = "by its VRF"
	case o.Status == routing.Off:
		l.After = "as main routes them"
		if o.After.Link != "" {
			l.After += ": " + o.After.String()
		}
		if l.in.Return == ToLastHop && o.After.Link != owner {
			l.problem(routing.Finding{Code: "off", Severity: routing.Warning,
				Subject: "VLAN " + l.VLAN, Origin: l.place.origin,
				Message: "the BIG-IP sent replies back the way they came; here " +
					"return is off, and main's routes decide",
				Hint: "--return " + owner + "=strict"})
		}
	case o.Status == routing.LocalOnly && !slices.ContainsFunc(j.here.Policy.Gateways,
		func(g routing.GatewayPin) bool { return g.Link == owner && g.None }):
		j.gateway(l, owner) // a bridge or tunnel may lead to a router, too
	case o.Status == routing.LocalOnly:
	case o.Status != routing.Unresolved:
		j.resolved(l, owner)
	default:
		j.unresolved(l, o, owner)
	}
}

// otherVLAN handles a VLAN that clients may come in by, where replies leave by
// another: an address has one way.
func (j *joiner) otherVLAN(l *line, owner string) {
	mode, decided := j.decided(l.addr, owner)
	if decided && (mode != routing.MainFirst || l.Interface == "" || j.leavesBy(l)) {
		return
	}
	flag := "--return " + owner + "=strict"
	hint := flag + " if none of their clients come in by it"
	if l.Interface != "" {
		hint += "; --return " + owner + "=main-first if those of its subnet do"
	}
	j.need.ret(owner, routing.Strict)
	l.problem(routing.Finding{Code: "other-vlan", Severity: routing.Warning,
		Subject: "VLAN " + l.VLAN, Origin: l.place.origin,
		Message: "virtual servers whose addresses belong to " + owner + " served clients " +
			"by this VLAN, too; here all their replies leave by " + owner,
		Hint: hint})
}

// decided returns the mode that the user gave to the address, or to its link.
func (j *joiner) decided(addr netip.Addr, link string) (routing.Return, bool) {
	for _, r := range j.here.Policy.Returns {
		if r.Addr == addr {
			return r.Mode, true
		}
	}
	for _, r := range j.here.Policy.Returns {
		if !r.Addr.IsValid() && r.Link == link {
			return r.Mode, true
		}
	}
	return "", false
}

// leavesBy asks what becomes of a reply to a client in the VLAN's subnets, with
// the plan carried out.
func (j *joiner) leavesBy(l *line) bool {
	if j.fib == nil {
		n := j.here.Policy.Numbers
		j.fib = routing.NewFIB(routing.With(routing.Without(j.here.Host, n),
			j.here.Plan.State))
	}
	for _, p := range l.place.prefixes {
		if routing.FamilyOf(p.Addr()) == routing.FamilyOf(l.addr) {
			w := j.fib.Way(routing.Query{Src: l.addr, Dst: j.client(p)})
			l.After = w.String() + " to clients of its subnet"
			return w.Link == l.Interface
		}
	}
	return false
}

// client returns an address of a subnet that is none of the host's own.
func (j *joiner) client(p netip.Prefix) netip.Addr {
	addr := p.Masked().Addr().Next()
	for j.present[addr] && p.Contains(addr.Next()) {
		addr = addr.Next()
	}
	return addr
}

// resolved compares the way that was found with what the BIG-IP's files say.
func (j *joiner) resolved(l *line, owner string) {
	path, ok := j.pathOf(l.addr, owner)
	if !ok {
		return
	}
	var vias []string
	var via netip.Addr
	for _, h := range path.Hops {
		if h.Via.IsValid() {
			via = h.Via
			vias = append(vias, h.Via.String())
		}
	}
	l.Gateway, l.GatewaySource = strings.Join(vias, ", "),
		cmp.Or(path.Detail, string(path.Source))
	_, decided := j.decided(l.addr, owner)
	on, elsewhere := j.routers(l)
	switch {
	case len(on) == 1 && l.in.Return == ToLastHopPool &&
		!slices.Contains(vias, on[0].addr.String()) && !j.pinned(l.addr):
		j.need.address(l.addr, owner, on[0].addr)
		l.problem(routing.Finding{Code: "gateway-differs", Severity: routing.Warning,
			Subject: l.addr.String(), Origin: on[0].origin,
			Message: fmt.Sprintf("the BIG-IP sent its replies to %s (%s); this host "+
				"has %s (%s)", on[0].addr, on[0].from, l.Gateway, l.GatewaySource),
			Hint: fmt.Sprintf("--address %s=%s,%s, or the other one", l.addr, owner,
				on[0].addr)})
	case len(elsewhere) > 0 && !decided:
		j.need.ret(owner, routing.Strict)
		l.problem(routing.Finding{Code: "routed", Severity: routing.Warning,
			Subject: "VLAN " + l.VLAN, Origin: elsewhere[0].origin,
			Message: fmt.Sprintf("the BIG-IP sent replies to clients of this VLAN to "+
				"%s (%s), which is not on it; here they would leave by %s",
				addrs(elsewhere), elsewhere[0].from, owner),
			Hint: fmt.Sprintf("--return %s=strict if they shall leave the way they "+
				"came; --return %s=off if main's routes shall decide",
				owner, owner)})
	case path.Source == routing.FromPin:
	case l.in.Return == ToLastHopPool && len(on)+len(elsewhere) == 0 && len(vias) > 0:
		j.need.gateway(owner, via)
		l.problem(routing.Finding{Code: "gateway-unknown", Severity: routing.Warning,
			Subject: l.in.Value, Origin: l.in.Origin,
			Message: "the BIG-IP sent replies to this last-hop-pool, of which the " +
				"files name no gateway; here they would leave by " + l.Gateway,
			Hint: "give the file that has it, or say which " +
				"router is right: --gateway " + owner + "=" + via.String()})
	case len(on) > 1:
		j.twoRouters(l, owner, on)
	case len(on) == 1 && (l.in.Return == Routed || on[0].wholeFamily) &&
		!slices.Contains(vias, on[0].addr.String()):
		j.need.gateway(owner, on[0].addr)
		l.problem(routing.Finding{Code: "gateway-differs", Severity: routing.Warning,
			Subject: "VLAN " + l.VLAN, Origin: on[0].origin,
			Message: fmt.Sprintf("the BIG-IP's router on it is %s (%s); this host "+
				"has %s (%s)", on[0].addr, on[0].from, l.Gateway, l.GatewaySource),
			Hint: fmt.Sprintf("--gateway %s=%s, or the other one", owner, on[0].addr)})
	}
}

// pinned says whether the user gave the address a gateway of its own.
func (j *joiner) pinned(addr netip.Addr) bool {
	return slices.ContainsFunc(j.here.Policy.Addresses, func(p routing.AddressPin) bool {
		return p.Addr == addr && p.Gateway.IsValid()
	})
}

// pathOf returns the path that an address takes.
func (j *joiner) pathOf(addr netip.Addr, link string) (routing.Path, bool) {
	via := j.outcomes[addr].After.Via
	best := -1
	for i, p := range j.here.Plan.Paths {
		if p.Link != link || p.Family != routing.FamilyOf(addr) {
			continue
		}
		if slices.ContainsFunc(p.Prefixes,
			func(x netip.Prefix) bool { return x.Contains(addr) }) {
			return p, true
		}
		if best < 0 || slices.ContainsFunc(p.Hops,
			func(h routing.Hop) bool { return h.Via == via }) {
			best = i
		}
	}
	if best < 0 {
		return routing.Path{}, false
	}
	return j.here.Plan.Paths[best], true
}

func (j *joiner) twoRouters(l *line, owner string, on []router) {
	l.problem(routing.Finding{Code: "two-routers", Severity: routing.Warning,
		Subject: "VLAN " + l.VLAN, Origin: on[0].origin,
		Message: "the BIG-IP knew several routers on it and answered each by itself: " +
			addrs(on) + "; here one of them gets all replies (return: " +
			"last-hop is not available yet)",
		Hint: fmt.Sprintf("--gateway %s=%s, or another of them; best the address that "+
			"they share (VRRP, HSRP)", owner, on[0].addr)})
	j.need.gateway(owner, on[0].addr)
}

// unresolved says what the address wants that nobody can see on the host.
func (j *joiner) unresolved(l *line, o routing.Outcome, owner string) {
	switch o.Reason {
	case "shadowed":
		l.problem(routing.Finding{Code: "shadowed", Severity: routing.Error, Subject: owner,
			Message: "rules of somebody else answer in front of any place for ours",
			Hint:    "lasthop plan says which rules"})
		return
	case "link-down":
		l.problem(routing.Finding{Code: "link-down", Severity: routing.Warning,
			Subject: owner, Message: "the interface is down",
			Hint: "ip link set " + shell(owner) + " up"})
		return
	case "no-gateway":
	default:
		j.need.address(l.addr, owner, netip.Addr{})
		l.problems = append(l.problems, problem{routing.Finding{Code: "no-owner",
			Severity: routing.Warning, Subject: "VLAN " + l.VLAN, Origin: l.d.Origin,
			Message: "the host cannot tell the interface of an address that is in " +
				"none of its subnets; the VLAN's is " + owner,
			Hint: "--address ADDR=" + owner + " for each; the steps hold them"},
			fmt.Sprintf("--address %s=%s", l.addr, owner)})
		if _, ok := j.pathOf(l.addr, owner); ok {
			return
		}
	}
	j.gateway(l, owner)
}

// gateway takes the gateway that the host does not know from the BIG-IP's
// files, where they have it.
func (j *joiner) gateway(l *line, owner string) {
	on, _ := j.routers(l)
	if len(on) == 0 {
		on = l.place.of(routing.FamilyOf(l.addr))
	}
	f := routing.FamilyOf(l.addr)
	subject := fmt.Sprintf("VLAN %s, %s, %s", l.VLAN, owner, f)
	switch len(on) {
	case 0:
		j.need.unknown(owner, l.VLAN, f, l.place)
		l.problem(routing.Finding{Code: "no-gateway", Severity: routing.Warning,
			Subject: subject, Origin: l.place.origin,
			Message: "neither this host nor the BIG-IP's files name the router of " +
				"this VLAN; Auto-Last-Hop needed none",
			Hint: fmt.Sprintf("--gateway %s=ADDR, or --gateway %s=none if all "+
				"clients are in its subnet", owner, owner)})
	case 1:
		l.Gateway, l.GatewaySource = on[0].addr.String(), on[0].from+", "+on[0].origin
		j.need.gateway(owner, on[0].addr)
		l.problem(routing.Finding{Code: "gateway-from-big-ip", Severity: routing.Warning,
			Subject: subject, Origin: on[0].origin,
			Message: fmt.Sprintf("this host does not know the router of this VLAN; "+
				"the BIG-IP's is %s (%s)", on[0].addr, on[0].from),
			Hint: fmt.Sprintf("--gateway %s=%s", owner, on[0].addr)})
	default:
		j.twoRouters(l, owner, on)
	}
}
