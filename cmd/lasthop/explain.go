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
		Use: "explain ADDR[:PORT]",
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
		"`FILE` add the ways that packets took, as lasthop observe -o json wrote them")
	c.Flags().StringVar(&from, "from", "",
		"`CLIENT` that gets the reply (default: one of each kind)")
	return a.flags.take(c, deciding+"netns host", "text", "json")
}

func (a *app) explain(target, from, evidence string) error {
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
