package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"lasthop/bigip"
	"lasthop/bigip/migrate"
	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/report"

	"github.com/spf13/cobra"
)

func (a *app) migrateCommand() *cobra.Command {
	f := migrateFlags{}
	c := &cobra.Command{
		Use: "migrate FILE...",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return hint.New(errors.New("no file of a BIG-IP is named"),
					"name a UCS, or bigip.conf and bigip_base.conf: lasthop "+
						"migrate FILE...")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := f.check(a, c); err != nil {
				return err
			}
			return a.migrate(args, f)
		},
	}
	f.define(c)
	return a.flags.take(c, deciding+"netns host", "text", "json", "csv", "markdown", "html",
		"nginx")
}

// migrateFlags are the flags of migrate alone.
type migrateFlags struct {
	global    string            // connection.autolasthop
	since     string            // the file of an earlier report
	selection migrate.Selection // of virtual servers
	verify    bool              // ask neighbours
	packets   time.Duration     // how long to look at packets; 0 if not
}

func (f *migrateFlags) define(c *cobra.Command) {
	c.Flags().StringVar(&f.global, "autolasthop", "", "`enable|disable` the value of "+
		"connection.autolasthop on the BIG-IP, whatever the files say")
	c.Flags().StringArrayVar(&f.selection.Only, "only", nil, "`PATTERN` take only these "+
		"virtual servers: /Common/web_*, /Team1/, 10.1.0.0/16, or %2 for a route domain")
	c.Flags().StringArrayVar(&f.selection.Skip, "skip", nil,
		"`PATTERN` leave out these virtual servers")
	c.Flags().StringVar(&f.since, "diff", "",
		"`FILE` say what changed since this report of lasthop migrate -o json")
	c.Flags().BoolVar(&f.verify, "verify", false, "after the move: ask the neighbours which "+
		"other machine has the addresses")
	c.Flags().DurationVar(&f.packets, "observe", 0, "`TIME` --verify, and look at "+
		"packets for so long (30s): which routers send requests to each address")
}

// verifying reports whether the user wants to verify a move that is over.
func (f migrateFlags) verifying() bool { return f.verify || f.packets != 0 }

// check refuses formats that the flags do not have, and flags that a mode does
// not use.
func (f migrateFlags) check(a *app, c *cobra.Command) error {
	switch {
	case f.verifying():
		return errors.Join(a.flags.formats("text", "json"), unused(c, "migrate --verify",
			"host diff", "--verify asks the neighbours of this machine, and compares "+
				"no reports"))
	case f.since != "": // a line of the CSV is no change
		return a.flags.formats("text", "json", "markdown", "html")
	case a.flags.output == "nginx":
		return unused(c, "migrate -o nginx", deciding+"netns host autolasthop",
			"the skeleton depends on the files of the BIG-IP alone")
	}
	return nil
}

// migrateGarbage is how much garbage Go may keep, in percent of what is in use.
// Most of what is read is in use to the end: repeated collections take a
// quarter of the time, and free little.
const migrateGarbage = 300

func (a *app) migrate(paths []string, f migrateFlags) error {
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(migrateGarbage))
	}
	c, err := loadBIGIP(paths, f.global)
	if err != nil {
		return err
	}
	if a.flags.output == "nginx" {
		text, whole, err := f.selection.Skeleton(c)
		if err == nil {
			_, err = io.WriteString(a.ui.stdout, text)
		}
		return ended(err, whole)
	}
	scene, s, err := look(a)
	if err != nil {
		return err
	}
	defer scene.close()
	m, err := migration(s, c, f.selection)
	if err == nil && f.since != "" {
		err = survey.Compare(&m, f.since)
	}
	if err != nil {
		return err
	}
	if f.verifying() {
		return verify(a, s, f.selection.Domains(c), m, f.packets)
	}
	return ended(a.ui.print(m, a.flags.output), !m.Blocked())
}

// verify asks neighbours for the addresses that moved, and observes packets.
func verify(a *app, s *survey.Survey, c bigip.Config, m report.Migration,
	packets time.Duration) error {
	h, line := s.Inputs.Host, a.ui.progress()
	questions := migrate.Questions(c, m.Result, h)
	line(fmt.Sprintf("asking neighbours for %d addresses", len(questions)))
	asked, err := survey.Ask(context.Background(), s, questions)
	if line(""); err != nil {
		return err
	}
	seen, err := a.ui.witness(s, packets)
	if err != nil {
		return err
	}
	v := report.Verification{Head: m.Head, Seen: seen,
		Verification: migrate.Verify(c, m.Result, h, asked, seen)}
	return ended(a.ui.print(v, a.flags.output), v.Wanted())
}

// loadBIGIP reads the files. The user's flag for Auto-Last-Hop wins over them.
func loadBIGIP(paths []string, global string) (bigip.Config, error) {
	setting, ok := bigip.ParseAutoLastHop(global)
	if global != "" && (!ok || setting == bigip.Default) {
		return bigip.Config{},
			hint.New(fmt.Errorf("--autolasthop %s: neither enable nor disable", global),
				"`tmsh list sys db connection.autolasthop` on the BIG-IP shows it")
	}
	c, err := bigip.Load(paths...)
	if global != "" {
		c.Global = bigip.Setting{Value: setting, Origin: "--autolasthop"}
	}
	if err == nil && len(c.Virtuals) == 0 {
		err = hint.New(errors.New("no virtual server is in the files"),
			"they are in bigip.conf; give it too, or the UCS")
	}
	return c, err
}

// migration joins the BIG-IP with this host.
func migration(s *survey.Survey, c bigip.Config, sel migrate.Selection) (report.Migration, error) {
	in := s.Inputs
	in.Warnings = nil // they are only about NGINX
	r, err := sel.Join(c, in)
	r.LimitSettings(settings.MaxFile)
	m := report.Migration{Head: s.Head(), BIGIP: report.BIGIP{Hostname: c.Hostname,
		Version: c.Version, Global: string(cmp.Or(c.Global.Value, bigip.Enabled)),
		GlobalFrom: cmp.Or(c.Global.Origin, "F5's default"),
		Stanzas:    c.Stanzas.Found, Named: c.Stanzas.Named}, Result: r}
	var files []report.Input
	for _, f := range c.Files {
		files = append(files, report.Input{File: f.Name, SHA256: f.SHA256, Main: true})
	}
	m.Inputs = slices.Concat(files, m.Inputs)
	return m, err
}
