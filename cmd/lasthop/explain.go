package main

import (
	"fmt"

	"lasthop/internal/hint"
	"lasthop/internal/survey"
	"lasthop/report"
	"lasthop/routing"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

func (a *app) explainCommand() *cobra.Command {
	from, evidence := "", ""
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
			return hint.New(fmt.Errorf("%s takes one address, not %d",
				c.CommandPath(), len(args)),
				"write it as: lasthop explain 10.0.1.100")
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return a.explain(args[0], from, evidence)
		},
	}
	c.Flags().StringVar(&evidence, "evidence", "",
		"add the ways that packets took, from a `FILE` that observe -o json wrote")
	c.Flags().StringVar(&from, "from", "",
		"the `CLIENT` that is answered (default: one of each kind)")
	return c
}

func (a *app) explain(target, from, evidence string) error {
	if err := a.flags.formats("text", "json"); err != nil {
		return err
	}
	t, err := survey.ParseTarget(target, from)
	if err != nil {
		return err
	}
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	e, err := scene.Explain(a.flags.decide, t)
	if err == nil && e.Disagree() > 0 {
		e, err = scene.Explain(a.flags.decide, t) // the host may have changed in between
	}
	if err != nil {
		return err
	}
	if e.Seen, err = survey.SeenOf(evidence, t); err != nil {
		return err
	}
	scene.next(&e)
	if err := a.ui.print(e, a.flags.output); err != nil {
		return err
	}
	if n := e.Disagree(); n > 0 {
		a.ui.warn("the kernel does not answer %d of the clients as explained", n)
		a.ui.hint("an ICMP redirect (ip route get shows it), or a " +
			"rule that is not modelled; " +
			"if neither is to blame, report it with: lasthop capture")
		return errNotWanted
	}
	return nil
}

// next returns the commands to go on with.
func (s scene) next(e *report.Explain) {
	if e.NotAsked == "" {
		e.Ask = fmt.Sprintf("ip route get %s from %s",
			e.Explained[0].Clients[0].Addr, e.Addr)
		if netns := host.NamespacePath(s.line.NetNS); netns != "" {
			e.Ask = "nsenter --net=" + routing.ShellWord(netns) + " " + e.Ask
		}
	}
	for _, x := range e.Explained {
		if !x.Same() && !e.Offline {
			e.Apply = s.line.Apply(e.Digest)
		}
	}
}
