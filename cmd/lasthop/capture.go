package main

import (
	"errors"

	"lasthop/report"
	"lasthop/routing/host"

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
	if err := errors.Join(a.flags.formats("json"), a.flags.live("capture")); err != nil {
		return err
	}
	k, err := a.open()
	if err != nil {
		return err
	}
	defer k.Close()
	v, err := a.look(k)
	if err != nil {
		return err
	}
	v.lookBeside(k)
	data, err := host.EncodeCapture(host.Capture{Time: v.taken.UTC(), Host: v.host,
		Listens: v.listeners, Binds: v.binds,
		Inputs: mapped(v.inputs, func(i report.Input) host.Input {
			return host.Input(i)
		}),
		Warnings: v.warnings, Flags: a.captureFlags(),
		Settings: captureSettings(v.policy), Numbers: v.policy.Numbers,
		DNATs: v.beside.dnats, Sessions: v.beside.sessions,
		NetworkFiles: v.beside.networkFiles})
	if err != nil {
		return err
	}
	_, err = a.ui.stdout.Write(data)
	return err
}

// captureFlags are the flags that the host was looked at with, for the line
// that plan ends with.
func (a *app) captureFlags() map[string][]string {
	out := map[string][]string{}
	for _, d := range a.flags.decisions() {
		if len(d.values) > 0 {
			out[d.name] = d.values
		}
	}
	if a.flags.netns != "" {
		out["netns"] = []string{a.flags.netns}
	}
	return out
}
