package migrate

import (
	"cmp"
	"fmt"
	"maps"
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
	outcomes map[netip.Addr]*routing.Outcome
	present  map[netip.Addr]bool
	fib      *routing.FIB // nil until needed, as the next ones
	bare     *routing.FIB // without anything of lasthop
	classes  map[netip.Addr]netip.Addr
}

func newHere(in routing.Inputs, plan routing.Plan) *here {
	h := &here{host: in.Host, policy: in.Policy, plan: plan,
		outcomes: make(map[netip.Addr]*routing.Outcome, len(plan.Outcomes)),
		present:  presentOn(in.Host)}
	for i := range plan.Outcomes {
		o := &plan.Outcomes[i]
		if _, ok := h.outcomes[o.Addr]; !ok {
			h.outcomes[o.Addr] = o
		}
	}
	return h
}

// presentOn returns the addresses of a host.
func presentOn(h routing.Host) map[netip.Addr]bool {
	all := make(map[netip.Addr]bool, len(h.Addrs))
	for _, a := range h.Addrs {
		all[a.Prefix.Addr()] = true
	}
	return all
}

// outcome returns the outcome of an address; the zero Outcome if nothing is
// decided for it.
func (h *here) outcome(addr netip.Addr) *routing.Outcome {
	if o := h.outcomes[addr]; o != nil {
		return o
	}
	return &routing.Outcome{}
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
	client := to.Masked().Addr().Next()
	for h.present[client] && to.Contains(client.Next()) {
		client = client.Next()
	}
	return h.routes().Way(routing.Query{Src: from, Dst: client})
}

func (h *here) routes() *routing.FIB {
	if h.fib == nil {
		bare := routing.Without(h.host, h.policy.Numbers)
		h.bare = routing.NewFIB(bare)
		h.fib = routing.NewFIB(routing.With(bare, h.plan.State))
		h.classes = h.fib.Classes(slices.Collect(maps.Keys(h.outcomes)))
	}
	return h.fib
}

// class returns one address for all that the rules match alike.
func (h *here) class(addr netip.Addr) netip.Addr {
	h.routes()
	return h.classes[addr]
}

// learns reports whether replies to a link's clients go back to the router that
// each request came from (the mode last-hop).
func (h *here) learns(link string) bool {
	return slices.ContainsFunc(h.plan.State.Filters,
		func(f routing.Filter) bool { return f.Link == link })
}

// judge judges the way of replies of a line, by the link of its address.
type judge struct{ *joiner }

// way finds how replies to clients of the row's VLAN leave here, and what is
// missing for the right way. Replies from the row's address leave by link.
func (j judge) way(l *line, link string) {
	o := l.site.outcome
	l.After = "not known"
	switch {
	case o.Status == routing.LocalOnly:
		l.After = "on-link"
	case o.Status == routing.Off && o.Reason == "vrf":
		l.After = "by its VRF"
	case o.Status == routing.Off && o.After.Link == "":
		l.After = "as main routes them"
	case o.Status == routing.Off:
		l.After = "as main routes them: " + o.After.String()
	case o.Status != routing.Unresolved && o.Link != "":
		l.After = o.After.String()
	}
	switch {
	case o.Status == routing.Off && o.Reason == "vrf":
	case o.Status == routing.Off && l.in.Return == bigip.Routed && l.Interface != "":
		j.missing(l, false)
		j.routed(l, link)
	case l.Interface != link:
		j.otherVLAN(l, link)
	case o.Status == routing.Off:
		if o.After.Link != link {
			l.needs("off", l.subject(), l.place.origin,
				"the BIG-IP sent replies back the way their requests came; here "+
					"return is off, and main's routes decide",
				routing.Flag("return", link+"=strict"))
		}
		j.missing(l, true)
	case o.Status == routing.LocalOnly:
		j.local(l, link)
	case o.Status == routing.Unresolved:
		j.unresolved(l, o.Reason, link)
	default:
		if path := j.here.plan.PathOf(*o); path != nil {
			j.resolved(l, link, path)
		}
	}
}

// otherVLAN handles a VLAN that clients may come in by while replies leave by
// another: an address has one way, unless it has the mode last-hop.
func (j judge) otherVLAN(l *line, link string) {
	mode, decided := j.here.decided(l.addr, link)
	path := j.here.plan.PathOf(*l.site.outcome)
	lastHop := path != nil && path.LastHop
	q := question{link: link, who: l.subject(),
		when: "no client comes in by %s", answer: "return: " + string(routing.Strict)}
	flag := func(mode routing.Return) string {
		return routing.Flag("return", link+"="+string(mode))
	}
	switch {
	case lastHop && l.Interface != "" && j.here.learns(l.Interface):
		return
	case decided && (mode == routing.MainFirst || mode == routing.NoReturn) &&
		l.Interface != "" && j.leavesBy(l):
		l.accept("clients that come in by "+l.subject()+" from behind a router",
			q.condition()+", except those of its subnet", flag(mode))
		return
	case decided && (mode != routing.MainFirst || l.Interface == "") &&
		mode != routing.LastHop:
		l.accept("clients that come in by "+l.subject(), q.condition(), flag(mode))
		return
	}
	advice := flag(routing.Strict) + " if none of their clients come in by it"
	j.need.ask(q)
	if l.Interface != "" {
		advice += "; " + flag(routing.MainFirst) + " if those of its subnet do"
		q.when, q.answer = "all clients that come in by %s are in its subnet",
			"return: "+string(routing.MainFirst)
		j.need.ask(q)
	}
	if j.here.host.TakesLastHop(link) && j.here.host.TakesLastHop(l.Interface) {
		advice += "; " + flag(routing.LastHop) + " if clients behind its routers do, too"
		q.when, q.answer = "clients come in by %s, too", "return: "+string(routing.LastHop)
		j.need.ask(q)
	}
	l.needs("other-vlan", l.subject(), l.place.origin,
		"virtual servers whose addresses belong to "+link+" served clients by this VLAN, "+
			"too; here all their replies leave by "+link, advice)
}

// leavesBy reports whether a reply to a client in the VLAN's subnets leaves by
// the VLAN's interface.
func (j judge) leavesBy(l *line) bool {
	for _, p := range l.place.prefixes {
		if routing.FamilyOf(p.Addr()) == routing.FamilyOf(l.addr) {
			w := j.here.way(l.addr, p)
			l.After = w.String() + " to clients of its subnet"
			return w.Link == l.Interface
		}
	}
	return false
}

// resolved compares the path that was found with the BIG-IP's files.
func (j judge) resolved(l *line, link string, path *routing.Path) {
	var vias []netip.Addr
	for _, h := range path.Gateways() {
		if h.Via.IsValid() {
			vias = append(vias, h.Via)
		}
	}
	l.Gateway, l.GatewaySource = list(vias), cmp.Or(path.Detail, string(path.Source))
	pool := l.in.Return == bigip.ToLastHopPool
	on := l.on
	lost := slices.DeleteFunc(slices.Clone(on), func(r router) bool {
		return j.served(l.addr, r) || len(on) == 1 && slices.Contains(vias, r.addr)
	})
	switch {
	case j.routed(l, link), path.LastHop:
	case pool && len(on)+len(l.elsewhere) == 0 && len(vias) > 0:
		j.poolUnknown(l, link, path, vias[len(vias)-1])
	case len(lost) == 0 && !pool:
		j.missing(l, true)
	case len(lost) == 0:
	case path.Source == routing.FromPin || pool && j.here.pinned(l.addr):
		j.chosen(l, link, lost)
	case len(on) > 1:
		j.twoRouters(l, link, on, lost)
	case pool:
		l.differs(on[0], l.addr.String(), "the BIG-IP sent its replies to",
			j.need.address(l.addr, link, on[0].addr))
	case on[0].network.IsValid() && !on[0].isDefault():
		j.routeMissing(l, on[0])
	default:
		l.differs(on[0], l.subject(), "the BIG-IP's router on it is",
			routing.Flag("gateway", link+"="+on[0].addr.String()))
		for _, addr := range append([]netip.Addr{on[0].addr}, vias...) {
			j.need.ask(question{link: link, who: addr.String(), gateway: addr,
				when: "requests come in by %s"})
		}
	}
}

// chosen names the clients that the user gave up by choosing one router.
func (j judge) chosen(l *line, link string, lost []router) {
	l.accept("clients that come in by "+l.subject()+" from behind "+list(lost),
		"no client comes in by "+list(lost),
		routing.Flag("gateway", link+"="+l.Gateway))
}

// routed asks which way is right if the BIG-IP did not send replies back to the
// VLAN. It reports whether it asks.
func (j judge) routed(l *line, link string) bool {
	if len(l.elsewhere) == 0 {
		return false
	}
	there := fmt.Sprintf("%s (%s)", list(l.elsewhere), l.elsewhere[0].from)
	strict, off := routing.Flag("return", link+"=strict"), routing.Flag("return", link+"=off")
	switch mode, decided := j.here.decided(l.addr, link); {
	case decided && mode == routing.NoReturn:
		l.accept("", "main's routes should decide, as the BIG-IP's did", off)
		return false
	case decided:
		l.accept("", "replies should leave the way their requests come in, not by "+there,
			routing.Flag("return", link+"="+string(mode)))
		return false
	}
	q := question{link: link, when: "replies should leave the way their requests come in",
		answer: "return: " + string(routing.Strict)}
	j.need.ask(q)
	q.when, q.answer = "main's routes should decide, as the BIG-IP's did",
		"return: "+string(routing.NoReturn)
	j.need.ask(q)
	var lacks []string
	for _, r := range j.lacking(l, j.toByMain) {
		lacks = append(lacks, j.add(r))
	}
	wanted := ""
	if len(lacks) > 0 {
		wanted = ", with what they lack: " + routing.Some(lacks, 6)
	}
	l.needs("routed", l.subject(), l.elsewhere[0].origin,
		fmt.Sprintf("the BIG-IP sent replies to clients of this VLAN to %s, "+
			"which is not on it; here they would leave by %s", there, link),
		strict+" if they should leave the way their requests came, by a router that "+
			"this host knows; "+off+" if main's routes should decide"+wanted)
	return true
}

// poolUnknown asks for the gateways of a last-hop-pool that the files lack.
func (j judge) poolUnknown(l *line, link string, path *routing.Path, via netip.Addr) {
	flag := routing.Flag("gateway", link+"="+via.String())
	if path.Source == routing.FromPin {
		l.accept("clients that the last-hop-pool answered by another router",
			"all members of "+l.in.Value+" are "+l.Gateway, flag)
		return
	}
	j.need.ask(question{link: link, who: l.in.Value, gateway: via,
		when: "all members of %s are this router"})
	l.needs("gateway-unknown", l.in.Value, l.in.Origin,
		"the BIG-IP sent replies to this last-hop-pool, and the files name no gateway "+
			"of it; here they would leave by "+l.Gateway,
		"give the file that has it, or say which router is right: "+flag)
}

// differs reports that this host has another gateway than the BIG-IP had.
func (l *line) differs(r router, subject, what, flag string) {
	l.needs("gateway-differs", subject, r.origin,
		fmt.Sprintf("%s %s (%s); this host has %s (%s)",
			what, r, r.from, l.Gateway, l.GatewaySource), flag+", or the other one")
}

// twoRouters asks which of several routers on a VLAN is right. The mode
// last-hop needs no answer: if this host supports it, it is proposed.
func (j judge) twoRouters(l *line, link string, on, lost []router) {
	message := "the BIG-IP knew several routers on it and sent each its own replies: " +
		list(on) + "; "
	why := j.noLastHop(l, link)
	if why == "" {
		if l.site.outcome.Path == 0 { // it needs a way for unknown connections
			j.need.gateway(link, on[0].addr)
		}
		if !j.need.ret(link, routing.LastHop) {
			j.need.ask(question{link: link, who: list(on),
				when:   "clients come in by each of %s",
				answer: "return: " + string(routing.LastHop)})
		}
		l.needs("two-routers", l.subject(), on[0].origin,
			message+"the mode last-hop does the same here",
			routing.Flag("return", link+"="+string(routing.LastHop))+
				"; the service needs its drop-in last-hop.conf for that")
		return
	}
	hint := routing.Flag("gateway", link+"="+on[0].addr.String()) +
		", or another of them; preferably the address that they share (VRRP, HSRP)"
	for _, r := range lost {
		if r.network.IsValid() && !r.isDefault() {
			hint += "; or, if only the clients of this network come in by it, " +
				r.command("add", link)
		}
	}
	for _, r := range on {
		rest := slices.DeleteFunc(slices.Clone(on), func(x router) bool { return x == r })
		j.need.ask(question{link: link, who: list(rest), gateway: r.addr,
			when: "no client comes in by %s"})
	}
	l.needs("two-routers", l.subject(), on[0].origin, message+
		"here one of them gets all replies, because this host "+why, hint)
}

// noLastHop returns why the mode last-hop is not offered; "" if it is.
func (j judge) noLastHop(l *line, link string) string {
	mode, _ := j.here.decided(l.addr, link)
	switch support := j.here.host.LastHop; {
	case support.Known && support.Missing != "":
		return "does not support the mode last-hop: " + support.Missing
	case !support.Known:
		return "does not say whether it supports the mode last-hop"
	case mode == routing.LastHop || !j.here.host.TakesLastHop(link):
		return "does not support the mode last-hop there (lasthop plan says why)"
	}
	return ""
}

// local handles an address for which this host knows no router.
func (j judge) local(l *line, link string) {
	if !j.here.closed(link) { // a bridge or tunnel may lead to a router, too
		j.gateway(l, link)
		return
	}
	l.accept("clients that come in by "+l.subject()+" from behind a router",
		"all clients that come in by "+l.subject()+" are in its subnet",
		routing.Flag("gateway", link+"=none"))
}

// unresolved reports what the address needs and this host does not tell.
func (j judge) unresolved(l *line, reason routing.Code, link string) {
	switch reason {
	case "shadowed":
		l.manual("shadowed", link, "",
			"rules of other programs leave no room for lasthop's rules in front of "+
				"them",
			"to see the rules: lasthop plan")
		return
	case "link-down":
		l.needs("link-down", link, "", "the interface is down",
			routing.Command("ip link set dev "+link+" up"))
		return
	case "no-gateway":
	default:
		l.needs("no-owner", l.subject(), l.d.Origin,
			"lasthop cannot tell the interface of an address that is in none of the "+
				"host's subnets; the VLAN's is "+link,
			routing.Flag("address", "ADDR="+link)+" for each; the steps have them").
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
func (j judge) gateway(l *line, link string) {
	f := routing.FamilyOf(l.addr)
	if j.routed(l, link) { // only one of the answers needs a gateway
		return
	}
	on := l.on
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
			routing.Flag("gateway", link+"="+askFor(f))+", or "+
				routing.Flag("gateway", link+"=none")+" if all clients are in its "+
				"subnet")
	case 1:
		l.Gateway, l.GatewaySource = on[0].addr.String(), on[0].from+", "+on[0].origin
		l.needs("gateway-from-big-ip", subject, on[0].origin,
			fmt.Sprintf("this host does not know "+
				"the router of this VLAN; the BIG-IP's is %s (%s)", on[0].addr,
				on[0].from), j.need.gateway(link, on[0].addr))
	default:
		j.twoRouters(l, link, on, on)
	}
}
