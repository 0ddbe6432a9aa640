package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/internal/writer"
	"lasthop/routing/flow/lasthop"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
)

// flags are those that all commands share, as given.
type flags struct {
	decide                      settings.Flags
	netns, output, host, runDir string
}

// common declares them on the root command, so that each command has them all
// and decides itself which it refuses.
func (f *flags) common(root *cobra.Command) {
	s := root.PersistentFlags()
	d := &f.decide
	s.StringArrayVarP(&d.Confs, "nginx-conf", "c", nil,
		"NGINX's main `FILE` (repeatable; default: that of every NGINX that runs\n"+
			"here, else /etc/nginx/nginx.conf)")
	s.StringArrayVar(&d.Listens, "listen", nil,
		"a further listener, `ADDR:PORT[/udp]` (repeatable)")
	s.StringArrayVar(&d.Gateways, "gateway", nil,
		"the gateway of an interface, `IF=ADDR|none|static` (repeatable)")
	s.StringArrayVar(&d.Returns, "return", nil,
		"how replies go back, `IF|ADDR=strict|main-first|last-hop|off` (repeatable)")
	s.StringArrayVar(&d.Addresses, "address", nil,
		"the interface of an address, `ADDR=IF[,GATEWAY]` (repeatable)")
	s.StringArrayVar(&d.Direct, "direct", nil,
		"destinations that keep main's way, `PREFIX` (repeatable)")
	s.StringArrayVar(&d.FailClosed, "fail-closed", nil,
		"drop replies rather than let them leave another way when `IF`'s\n"+
			"gateway is gone; * is every interface (repeatable)")
	s.StringVar(&f.netns, "netns", "", "work in another network namespace, `NAME|PATH|PID`")
	s.StringVarP(&f.output, "output", "o", "text",
		"`FORMAT` of the result: text, json; of plan and migrate also html,\n"+
			"markdown, csv; of plan iproute2, networkd; of migrate nginx")
	s.StringVar(&f.host, "host", "",
		"take the host from a `FILE` that capture wrote; for plan, check,\nexplain and "+
			"migrate")
	s.StringVar(&d.File, "config", settings.DefaultFile,
		"settings, a `FILE` in YAML; flags win over it; '' is none")
	s.StringVar(&f.runDir, "run-dir", "/run/lasthop", "`DIR` of locks and undo scripts")
	_ = s.MarkHidden("run-dir") // fails only for a flag that does not exist
	root.PersistentPreRun = func(*cobra.Command, []string) { d.FileGiven = s.Changed("config") }
}

// formats refuses an output format that the command does not have.
func (f *flags) formats(have ...string) error {
	if !slices.Contains(have, f.output) {
		return hint.New(fmt.Errorf("output format %q: not one of this command", f.output),
			"there are: "+strings.Join(have, ", "))
	}
	return nil
}

// live is formats, and refuses --host, for commands that need the machine.
func (f *flags) live(command string, have ...string) error {
	err := f.formats(have...)
	if f.host != "" {
		err = errors.Join(err, hint.New(
			fmt.Errorf("%s works on this machine's kernel, not on a captured host",
				command),
			"plan it for that host: lasthop plan --host "+f.host+" -o iproute2"))
	}
	return err
}

// scene is where a command works.
type scene struct {
	survey.Place
	kernel *host.Kernel // nil for a captured host
	// the programs of the mode last-hop; nil for a captured host
	lastHop *lasthop.Control
	line    settings.Line
	runDir  string
}

// open opens this machine's kernel, or reads the file of --host.
func (a *app) open() (scene, error) {
	f := a.flags
	s := scene{runDir: f.runDir,
		line: settings.Line{Flags: f.decide, NetNS: f.netns, Host: f.host}}
	if f.host != "" {
		place, c, err := survey.Captured(f.host)
		s.Place, s.line.Captured = place, c.Flags
		return s, err
	}
	k, err := host.Open(f.netns)
	if err != nil {
		return s, hint.New(err,
			"name it as `ip netns` lists it, or by the PID of one of its processes")
	}
	s.kernel, k.GroupsFile = k, writer.GroupsFile(f.runDir, k.Inode())
	s.lastHop = &lasthop.Control{
		Place: lasthop.Place{Root: lasthop.BPFFS, Namespace: k.Inode()}}
	if st, err := settings.Load(f.decide); err == nil { // the survey reads them, too
		s.lastHop.Flows, s.lastHop.Trust = st.Policy.Connections(), st.TrustKernel
		k.AskedLastHop = st.Policy.AsksLastHop()
	}
	k.LastHop = s.lastHop
	s.Place = survey.Live(k, f.netns, func(message string) { a.ui.warn("%s", message) })
	return s, nil
}

// look opens the host and surveys it. If there is no error, the caller closes
// the scene.
func look(a *app) (scene, *survey.Survey, error) {
	opened, err := a.open()
	if err != nil {
		return opened, nil, err
	}
	s, err := opened.Look(a.flags.decide)
	if err != nil {
		opened.close()
	}
	return opened, s, err
}

// lookAtListeners is look, and refuses a host without listeners.
func lookAtListeners(a *app) (scene, *survey.Survey, error) {
	opened, s, err := look(a)
	if err != nil {
		return opened, nil, err
	}
	if err = s.Listening(); err != nil {
		opened.close()
	}
	return opened, s, err
}

func (s scene) close() {
	if s.kernel != nil {
		s.kernel.Close()
		s.lastHop.Close()
	}
}
