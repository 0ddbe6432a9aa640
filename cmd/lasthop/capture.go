package main

import (
	"errors"

	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

func (a *app) captureCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "capture",
		Short: "print this host as one JSON document, to plan for it elsewhere",
		Long: `capture prints links, addresses, routes, rules, neighbours, DHCP gateways, a few
sysctls and where NGINX listens, in the shape that ` + "`ip -N -j -d`" + ` prints. It holds no
configuration text and no secrets. Use it with: lasthop plan --host FILE`,
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
	data, err := host.EncodeCapture(host.Capture{Time: v.taken.UTC(), Host: v.host, Listens: v.listeners, Binds: v.binds})
	if err != nil {
		return err
	}
	_, err = a.ui.stdout.Write(data)
	return err
}
