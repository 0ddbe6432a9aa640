package main

import (
	"lasthop/internal/settings"
	"lasthop/routing/capture"

	"github.com/spf13/cobra"
)

func (a *app) captureCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "capture",
		Short: "print this host as one JSON document, to plan for it elsewhere",
		Long: `capture prints links, addresses, routes, rules, neighbours, DHCP gateways, a few
sysctls and where NGINX listens, in the shape that ` + "`ip -N -j -d`" + ` prints; and what
else a plan speaks of: settings, sums of the files read, translations (as root
only), and how many TCP sessions there are, with one client for each way. It
holds no configuration text and no secrets.

Use it with: lasthop plan --host FILE, which prints what plan prints here.`,
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.capture() },
	}
}

func (a *app) capture() error {
	if a.flags.output == "text" {
		a.flags.output = "json" // there is no other
	}
	if err := a.flags.live("capture", "json"); err != nil {
		return err
	}
	scene, err := a.open()
	if err != nil {
		return err
	}
	defer scene.close()
	scene.kernel.AskedLastHop = true // a plan made with it may ask
	s, err := scene.Look(a.flags.decide)
	if err != nil {
		return err
	}
	s.LookBeside()
	c := capture.Capture{Time: s.Taken.UTC(), Host: s.Inputs.Host, Listens: s.Inputs.Listeners,
		Binds: s.Inputs.Binds, Warnings: s.Inputs.Warnings, Flags: scene.line.Words(),
		Settings: settings.Words(s.Inputs.Policy), Numbers: s.Inputs.Policy.Numbers,
		DNATs: s.Beside.DNATs, Sessions: s.Beside.Sessions,
		NetworkFiles: s.Beside.NetworkFiles,
		Inputs:       []capture.Input{}}
	for _, f := range s.NGINX.Files {
		c.Inputs = append(c.Inputs, capture.Input(f))
	}
	data, err := capture.Encode(c)
	if err != nil {
		return err
	}
	_, err = a.ui.stdout.Write(data)
	return err
}
