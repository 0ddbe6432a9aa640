package survey

import (
	"fmt"
	"net/netip"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/report"
	"lasthop/routing"
)

// Target is what the user asks explain about.
type Target struct {
	Addr, Client netip.Addr // Client is zero for one of each kind
	Port         uint16     // 0 for any
}

// ParseTarget reads ADDR[:PORT] and, unless from is "", the client.
func ParseTarget(target, from string) (Target, error) {
	var t Target
	addr, err := netip.ParseAddr(target)
	if err != nil {
		ap, err := netip.ParseAddrPort(target)
		if err != nil || ap.Port() == 0 {
			return t, hint.New(fmt.Errorf("%q is not an address", target),
				"write it as 10.0.1.100, 10.0.1.100:443 or [2001:db8::1]:443")
		}
		addr, t.Port = ap.Addr(), ap.Port()
	}
	t.Addr = addr.Unmap()
	if err := routable(t.Addr); err != nil {
		return t, hint.New(err,
			"name an address that NGINX listens on; to list them: lasthop plan")
	}
	if from == "" {
		return t, nil
	}
	if t.Client, err = settings.ParseAddr(from); err != nil {
		return t, fmt.Errorf("--from: %w", err)
	}
	if err := routable(t.Client); err != nil && !t.Client.IsLoopback() {
		return t, hint.New(fmt.Errorf("--from: %w", err),
			"name one client, or omit --from to explain one client of each kind")
	}
	if f, g := routing.FamilyOf(t.Addr), routing.FamilyOf(t.Client); f != g {
		return t, hint.New(fmt.Errorf("--from: %s is an %s address, and %s an %s one",
			t.Client, g, t.Addr, f), fmt.Sprintf("name an %s client", f))
	}
	return t, nil
}

// routable returns an error for an address whose replies do not depend on rules
// and tables.
func routable(addr netip.Addr) error {
	var what string
	switch {
	case addr.IsUnspecified():
		what = "means every address"
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		what = "is the broadcast address"
	case addr.IsMulticast():
		what = "is a multicast address"
	case addr.IsLoopback():
		what = "never leaves this host"
	case addr.Is6() && addr.IsLinkLocalUnicast():
		what = "never leaves its link"
	case addr.Zone() != "":
		what = "has a zone, which only link-local addresses have"
	default:
		return nil
	}
	return fmt.Errorf("%s %s", addr, what)
}

// Explain returns how replies of the target leave now and after apply, and the
// machine's own answer.
func (p Place) Explain(f settings.Flags, t Target) (report.Explain, error) {
	s, err := p.Host(f)
	if err != nil {
		return report.Explain{}, err
	}
	e := report.Explain{Addr: t.Addr, Port: t.Port, Offline: p.Offline}
	if e.NoPlan, err = s.decideIfKnown(); err != nil {
		return e, err
	}
	if e.NoPlan == "" {
		e.Digest = s.Decision.Digest()
	}
	e.Head, e.Here = s.Head(), routing.Present(s.Inputs.Host)(t.Addr)
	e.Listeners, e.OtherPorts = s.listenersOn(t)
	s.explain(&e, t)
	return e, s.askEach(&e)
}

// decideIfKnown decides. If it finds no listeners, the present way can still be
// explained: then it returns the reason why there is no plan. If the user named
// files or listeners, it is an error.
func (s *Survey) decideIfKnown() (noPlan string, _ error) {
	err := s.Listen()
	if err == nil {
		err = s.Listening()
	}
	if err != nil && len(s.Settings.Confs)+len(s.Settings.Listens) > 0 {
		return "", err
	}
	if err != nil {
		noPlan = err.Error()
		s.Inputs.Listeners, s.Inputs.Binds, s.Inputs.Warnings = nil, nil, nil
	}
	return noPlan, s.Decide()
}

// listenersOn returns what NGINX listens on at the address, and how many
// further ports there are if one was named.
func (s *Survey) listenersOn(t Target) (list []routing.Outcome, otherPorts int) {
	for _, o := range s.Decision.Plan.Outcomes {
		switch {
		case o.Addr != t.Addr:
		case t.Port == 0 || o.Ports.First <= t.Port && t.Port <= o.Ports.Last:
			list = append(list, o)
		default:
			otherPorts++
		}
	}
	return list, otherPorts
}

// explain finds the ways of the address's replies.
func (s *Survey) explain(e *report.Explain, t Target) {
	want := s.Decision.Plan.State
	if e.NoPlan != "" {
		want = s.Decision.Owned
	}
	h := s.Inputs.Host
	r := routing.NewExplainer(h, s.Inputs.Policy, want)
	e.Link, e.VRF = r.Link(t.Addr), r.VRF(t.Addr)
	list := r.ToAll(t.Addr)
	if t.Client.IsValid() {
		list = r.To(t.Addr, t.Client)
	}
	for _, y := range list {
		z := report.Explained{Explanation: y}
		if !e.Offline || len(h.Neighs) > 0 { // a capture may lack them
			z.NowNeighs, z.AfterNeighs = r.Neighs(y.Now), r.Neighs(y.After)
		}
		e.Explained = append(e.Explained, z)
	}
}

// askEach asks the machine for the way to each client.
func (s *Survey) askEach(e *report.Explain) error {
	switch {
	case e.Offline:
		e.NotAsked = "this host comes from a capture"
		return nil
	case !e.Here && e.Addr.Is4():
		e.NotAsked = e.Addr.String() + " is not on this host, and the kernel looks up " +
			"no IPv4 source that the host does not have"
		return nil
	}
	for i := range e.Explained {
		x := &e.Explained[i]
		var qs []routing.Query
		for _, c := range x.Clients {
			qs = append(qs, routing.Query{Src: e.Addr, Dst: c.Addr})
		}
		var err error
		if x.Kernel, err = s.Place.Ask(qs); err != nil {
			return err
		}
	}
	return nil
}
