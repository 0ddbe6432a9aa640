package main

import (
	"lasthop/internal/settings"
	"lasthop/routing/capture"

	"github.com/spf13/cobra"
)

func (a *app) captureCommand() *cobra.Command {
	return a.flags.take(&cobra.Command{
		Use:  "capture",
		Args: none,
		RunE: func(*cobra.Command, []string) error { return a.capture() },
	}, deciding+"netns", "json")
}

func (a *app) capture() error {
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
	s.ReadBackground()
	c := capture.Capture{Time: s.Taken.UTC(), Host: s.Inputs.Host, Listens: s.Inputs.Listeners,
		Binds: s.Inputs.Binds, Warnings: s.Inputs.Warnings, Flags: scene.line.Words(),
		Settings: settings.Words(s.Inputs.Policy), Numbers: s.Inputs.Policy.Numbers,
		DNATs: s.Background.DNATs, Sessions: s.Background.Sessions,
		NetworkFiles: s.Background.NetworkFiles,
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
