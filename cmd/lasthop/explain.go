package main

import (
	"fmt"
	"net/netip"

	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

func (a *app) explainCommand() *cobra.Command {
	from := ""
	c := &cobra.Command{
		Use:   "explain ADDR[:PORT]",
		Short: "show the way of an address's replies, rule by rule, now and after apply",
		Long: `explain walks the rules and tables of this host for replies of one address, as the
kernel does: each rule tried, why it matched or not, what its table answered, what
was suppressed and why, the gateway, and whether it is a known neighbour.

Now is the host as it is, with whatever of ours is installed. After apply is the
host as apply would leave it; where that is the same, it says so.

Without --from it takes one client of each kind: off-link, on-link, on another
uplink's LAN, behind a static route, behind a bridge or tunnel, banned, and one for
each rule that names destinations. ADDR need not be a listener's, nor be here.

It then asks the kernel the same, and exits with 2 if the kernel answers otherwise.
What it does not know: VRFs, and rules by uidrange, tos, protocol, port or tun_id.
It says so where it meets one. Nor does it know ICMP redirects, for which the kernel
answers otherwise. It changes nothing and needs no root.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return hint(fmt.Errorf("%s takes one address, not %d", c.CommandPath(),
				len(args)), "write it as: lasthop explain 10.0.1.100")
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return a.explain(args[0], from)
		},
	}
	c.Flags().StringVar(&from, "from", "",
		"the `CLIENT` that is answered (default: one of each kind)")
	return c
}

func (a *app) explain(target, from string) error {
	if err := a.flags.formats("text", "json"); err != nil {
		return err
	}
	x, err := parseExplaining(target, from)
	if err != nil {
		return err
	}
	k, err := a.open()
	if err != nil {
		return err
	}
	defer closeKernel(k)
	e, err := a.explainOnce(k, x)
	if err == nil && e.Disagree() > 0 {
		e, err = a.explainOnce(k, x) // the host may have changed in between
	}
	if err != nil {
		return err
	}
	if err := a.ui.print(e, a.flags.output); err != nil {
		return err
	}
	if n := e.Disagree(); n > 0 {
		a.ui.warn("the kernel does not answer %d of the clients as explained", n)
		a.ui.hint("an ICMP redirect (ip route get shows it), or a rule that is not " +
			"modelled; if neither is to blame, report it with: lasthop capture")
		return errNotWanted
	}
	return nil
}

// explaining is what the user asks.
type explaining struct {
	addr, client netip.Addr // client is zero for one of each kind
	port         uint16     // 0 for any
}

func parseExplaining(target, from string) (explaining, error) {
	var x explaining
	addr, err := netip.ParseAddr(target)
	if err != nil {
		ap, err := netip.ParseAddrPort(target)
		if err != nil || ap.Port() == 0 {
			return x, hint(fmt.Errorf("%q is no address", target),
				"write it as 10.0.1.100, 10.0.1.100:443 or [2001:db8::1]:443")
		}
		addr, x.port = ap.Addr(), ap.Port()
	}
	x.addr = addr.Unmap()
	if err := routable(x.addr); err != nil {
		return x, hint(err,
			"name an address that NGINX listens on; they are listed by: lasthop plan")
	}
	if from == "" {
		return x, nil
	}
	if x.client, err = parseAddr(from); err != nil {
		return x, fmt.Errorf("--from: %w", err)
	}
	if err := routable(x.client); err != nil && !x.client.IsLoopback() {
		return x, hint(fmt.Errorf("--from: %w", err),
			"name one client, or leave --from out for one of each kind")
	}
	if f, g := routing.FamilyOf(x.addr), routing.FamilyOf(x.client); f != g {
		return x, hint(fmt.Errorf("--from: %s is an %s address, and %s an %s one", x.client,
			g, x.addr, f), fmt.Sprintf("name an %s client", f))
	}
	return x, nil
}

// routable is an error for an address whose replies are not a matter of rules
// and tables.
func routable(addr netip.Addr) error {
	switch {
	case addr.IsUnspecified():
		return fmt.Errorf("%s stands for every address", addr)
	case addr == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("%s is the broadcast address", addr)
	case addr.IsMulticast():
		return fmt.Errorf("%s is a multicast address", addr)
	case addr.IsLoopback():
		return fmt.Errorf("%s never leaves this host", addr)
	case addr.Is6() && addr.IsLinkLocalUnicast():
		return fmt.Errorf("%s never leaves its link", addr)
	case addr.Zone() != "":
		return fmt.Errorf("%s has a zone, which only link-local addresses have", addr)
	}
	return nil
}

// explainOnce looks at the host and explains.
func (a *app) explainOnce(k *host.Kernel, x explaining) (report.Explain, error) {
	v, err := a.lookAtHost(k)
	if err != nil {
		return report.Explain{}, err
	}
	e := report.Explain{Addr: x.addr, Port: x.port, Offline: v.offline}
	if e.NoPlan, err = a.decideIfKnown(k, v); err != nil {
		return e, err
	}
	if e.NoPlan == "" {
		e.Digest = v.plan.Digest(v.diff)
	}
	e.Head, e.Here = v.head(), v.here(x.addr)
	e.Listeners, e.Others = v.listenersOn(x)
	v.explain(&e, x)
	a.next(&e)
	return e, askEach(k, &e)
}

// listenersOn returns what NGINX listens on at the address, and how many
// further ports there are if one was named.
func (v *view) listenersOn(x explaining) (list []routing.Outcome, others int) {
	for _, o := range v.plan.Outcomes {
		switch {
		case o.Addr != x.addr:
		case x.port == 0 || o.Ports.First <= x.port && x.port <= o.Ports.Last:
			list = append(list, o)
		default:
			others++
		}
	}
	return list, others
}

// explain finds the ways of the address's replies.
func (v *view) explain(e *report.Explain, x explaining) {
	want := v.plan.State
	if e.NoPlan != "" {
		want = v.owned
	}
	r := routing.NewExplainer(v.host, v.policy, want)
	e.Link, e.VRF = r.Link(x.addr), r.VRF(x.addr)
	list := r.ToAll(x.addr)
	if x.client.IsValid() {
		list = r.To(x.addr, x.client)
	}
	for _, y := range list {
		z := report.Explained{Explanation: y}
		if !v.offline || len(v.host.Neighs) > 0 { // a capture may be without
			z.NowNeighs, z.AfterNeighs = r.Neighs(y.Now), r.Neighs(y.After)
		}
		e.Explained = append(e.Explained, z)
	}
}

// decideIfKnown makes the plan. Where no listeners can be found, the way of
// today can be explained all the same: then it says why there is no plan. Files
// and listeners that the user named are another matter.
func (a *app) decideIfKnown(k *host.Kernel, v *view) (noPlan string, _ error) {
	err := a.readListeners(k, v, v.settings)
	if err == nil {
		err = v.listening()
	}
	if err != nil && len(v.settings.confs)+len(v.settings.listens) > 0 {
		return "", err
	}
	if err != nil {
		v.owned = routing.Owned(v.host, v.policy.Numbers)
		return err.Error(), v.policy.Validate(v.host)
	}
	return "", v.decide()
}

// next says how to go on.
func (a *app) next(e *report.Explain) {
	first := e.Explained[0]
	if !e.Offline {
		e.Ask = fmt.Sprintf("ip route get %s from %s", first.Clients[0].Addr, e.Addr)
		if a.flags.netns != "" {
			e.Ask = "nsenter --net=" + shellWord(a.netnsPath()) + " " + e.Ask
		}
	}
	for _, x := range e.Explained {
		if !x.Same() && !e.Offline {
			e.Apply = a.applyLine(e.Digest)
		}
	}
}

// askEach asks the kernel for the way to each client.
func askEach(k *host.Kernel, e *report.Explain) error {
	switch {
	case k == nil:
		e.NotAsked = "this host comes from a capture"
		return nil
	case !e.Here && e.Addr.Is4():
		e.Ask, e.NotAsked = "",
			e.Addr.String()+" is not here, and IPv4 looks up no source that is not"
		return nil
	}
	for i := range e.Explained {
		x := &e.Explained[i]
		for _, c := range x.Clients {
			w, err := k.RouteGet(routing.Query{Src: e.Addr, Dst: c.Addr})
			if err != nil {
				return err
			}
			x.Kernel = append(x.Kernel, w)
		}
	}
	return nil
}
