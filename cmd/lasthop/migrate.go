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
	global, verifying, packets := "", false, time.Duration(0)
	c := &cobra.Command{
		Use:   "migrate FILE...",
		Short: "say what becomes of a BIG-IP's virtual servers on this NGINX host",
		Long: `migrate reads a BIG-IP's configuration, NGINX's and this host, and says for each
virtual server and each VLAN what Auto-Last-Hop did for it there and what does
the same here, what is missing for that, and how to cut over and back: the exact
flags or lasthop.yaml, lines of nginx.conf, commands for both sides. It changes
nothing and needs no root.

FILE is what an engineer has: bigip.conf and bigip_base.conf, a UCS, an SCF, the
output of tmsh list, BigDB.dat, or a directory with these; several are taken
together, as one BIG-IP's. Keys and passwords in them are never printed.

Formats (-o): text; json; csv, a line for each virtual server, destination and
VLAN; markdown, for a ticket; html, one page with a drawing and a
table to filter; nginx, a skeleton of nginx.conf that listens where the
BIG-IP did.

With --verify, after the move, it asks the neighbours of this host who has the
addresses that moved, and names each machine that still answers for one. It sends
ARP requests and neighbour solicitations, changes nothing, and needs CAP_NET_RAW.

It exits with 2 if a virtual server needs input or is manual, or is not in the
skeleton, and with --verify if an address is not answered here alone.`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return hint.New(errors.New("no file of a BIG-IP is named"),
					"name a UCS, or bigip.conf and bigip_base.conf: lasthop "+
						"migrate FILE...")
			}
			return nil
		},
		RunE: func(_ *cobra.Command, args []string) error {
			return a.migrate(args, global, verifying || packets != 0, packets)
		},
	}
	c.Flags().StringVar(&global, "autolasthop", "", "what connection.autolasthop is on the "+
		"BIG-IP, `enable|disable`, whatever\nthe files say")
	c.Flags().BoolVar(&verifying, "verify", false, "after the move: ask neighbours who else "+
		"has the addresses")
	c.Flags().DurationVar(&packets, "observe", 0, "--verify, and look at packets for this "+
		"`TIME` (30s): who sends requests to\neach address")
	return c
}

// migrateGarbage is how much garbage Go may keep, in percent of what is in use.
// Most of what is read is in use to the end: to look for garbage in it again
// and again takes a quarter of the time, and finds little.
const migrateGarbage = 300

func (a *app) migrate(paths []string, global string, verifying bool,
	packets time.Duration) error {
	err := a.flags.formats("text", "json", "csv", "markdown", "html", "nginx")
	if verifying {
		err = a.flags.live("migrate --verify", "text", "json")
	}
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(migrateGarbage))
	}
	c, err := loadBIGIP(paths, global)
	if err != nil {
		return err
	}
	if a.flags.output == "nginx" {
		text, whole := migrate.Skeleton(c)
		_, err := io.WriteString(a.ui.stdout, text)
		return ended(err, whole)
	}
	scene, s, err := look(a)
	if err != nil {
		return err
	}
	defer scene.close()
	m, err := migration(s, c)
	if err != nil {
		return err
	}
	if verifying {
		return verify(a, s, c, m, packets)
	}
	return ended(m.Write(a.ui.stdout, a.flags.output, a.ui.style()), !m.Blocked())
}

// verify asks neighbours for the addresses that moved, and looks at packets.
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

// loadBIGIP reads the files. What the user says of Auto-Last-Hop wins over
// them.
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
func migration(s *survey.Survey, c bigip.Config) (report.Migration, error) {
	in := s.Inputs
	in.Warnings = nil // they are about NGINX alone
	r, err := migrate.Join(c, in)
	noteSize(r)
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

// noteSize says in the step of lasthop.yaml that lasthop does not read a file
// of that size.
func noteSize(r migrate.Result) {
	for i := range r.Steps {
		s := &r.Steps[i]
		if s.Where != "lasthop.yaml" || len(r.Settings) <= settings.MaxFile {
			continue
		}
		s.Notes = append(s.Notes, fmt.Sprintf("This is too large: lasthop reads at most "+
			"%d KiB. Leave addresses out and give them as flags (--address ADDR=IF), "+
			"or serve them by another host.", settings.MaxFile>>10))
	}
}
