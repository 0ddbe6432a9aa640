package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/internal/survey"
	"lasthop/internal/writer"
	"lasthop/routing/flow/lasthop"
	"lasthop/routing/host"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// flags are those that commands share, as given.
type flags struct {
	decide                      settings.Flags
	netns, output, host, runDir string
}

// formatsOf is the annotation of a command's -o with its formats.
const formatsOf = "formats"

// deciding are the shared flags that decide what becomes of replies.
const deciding = "nginx-conf listen config gateway return address direct fail-closed "

// shared returns the flags that several commands have. Their help begins with
// the value in backquotes, which is not part of the text.
func (f *flags) shared() *pflag.FlagSet {
	s := pflag.NewFlagSet("", pflag.ContinueOnError)
	d := &f.decide
	s.StringArrayVarP(&d.Confs, "nginx-conf", "c", nil, "`FILE` NGINX's main file; "+
		"default: that of each NGINX that runs here, else /etc/nginx/nginx.conf")
	s.StringArrayVar(&d.Listens, "listen", nil, "`ADDR:PORT[/udp]` a further listener")
	s.StringArrayVar(&d.Gateways, "gateway", nil,
		"`IF=ADDR|none|static` the gateway of an interface")
	s.StringArrayVar(&d.Returns, "return", nil,
		"`IF|ADDR=MODE` how replies go back: strict, main-first, last-hop or off")
	s.StringArrayVar(&d.Addresses, "address", nil,
		"`ADDR=IF[,GATEWAY]` the interface of an address")
	s.StringArrayVar(&d.Direct, "direct", nil,
		"`PREFIX` destinations that the main table alone decides about")
	s.StringArrayVar(&d.FailClosed, "fail-closed", nil, "`IF` drop replies while the gateway "+
		"of this interface is gone, do not send them another way; * is every interface")
	s.StringVar(&f.netns, "netns", "", "`NAME|PATH|PID` work in another network namespace")
	s.StringVarP(&f.output, "output", "o", "text",
		"`FORMAT` format of the result; the help of each command lists its formats")
	s.StringVar(&f.host, "host", "", "`FILE` plan for the host that lasthop capture wrote, "+
		"not for this one")
	s.StringVar(&d.File, "config", settings.DefaultFile,
		"`FILE` settings in YAML; flags win over it; '' is none")
	s.StringVar(&f.runDir, "run-dir", "/run/lasthop", "`DIR` of locks and undo scripts")
	_ = s.MarkHidden("run-dir") // fails only for a flag that does not exist
	return s
}

// take gives a command the shared flags that it heeds, by name, and -o with
// its formats, of which the first is the default. What it does not take, it
// refuses and does not list, but for --config: a script or an alias may give it
// to every command.
func (f *flags) take(c *cobra.Command, names string, formats ...string) *cobra.Command {
	all := f.shared()
	if !strings.Contains(names, "config") {
		names += " config"
		_ = all.MarkHidden("config") // fails only for a flag that does not exist
	}
	for name := range strings.FieldsSeq(names + " output run-dir") {
		flag := all.Lookup(name)
		if name == "output" {
			flag.Usage = "`FORMAT` format of the result: " + strings.Join(formats, ", ")
			flag.Hidden, flag.DefValue = len(formats) < 2, formats[0]
			flag.Annotations = map[string][]string{formatsOf: formats}
		}
		c.Flags().AddFlag(flag)
	}
	c.PreRunE = func(*cobra.Command, []string) error {
		f.decide.FileGiven = c.Flags().Changed("config")
		if !c.Flags().Changed("output") {
			f.output = formats[0]
		}
		err := errors.Join(f.formats(formats...), positive(c))
		if f.host != "" {
			err = errors.Join(err, unused(c, c.Name()+" --host", "netns",
				"--host reads the file alone"))
		}
		return err
	}
	return c
}

// positive refuses durations that are 0 or negative.
func positive(c *cobra.Command) (err error) {
	c.Flags().Visit(func(f *pflag.Flag) {
		if d, bad := c.Flags().GetDuration(f.Name); bad == nil && d <= 0 {
			err = hint.New(fmt.Errorf("--%s %s: want a time greater than 0", f.Name, d),
				"write it as: --"+f.Name+" 30s")
		}
	})
	return err
}

// unused refuses those of the named flags that the user gave, and that a mode
// of the command does not use.
func unused(c *cobra.Command, mode, names, remedy string) error {
	var given []string
	for name := range strings.FieldsSeq(names) {
		if c.Flags().Changed(name) && name != "config" { // see take
			given = append(given, "--"+name)
		}
	}
	if len(given) == 0 {
		return nil
	}
	return hint.New(fmt.Errorf("lasthop %s does not take %s", mode,
		strings.Join(given, ", ")), remedy)
}

// refuse says of a flag that the command does not take whether another command
// takes it.
func refuse(c *cobra.Command, err error) error {
	unknown, ok := errors.AsType[*pflag.NotExistError](err)
	remedy := "see: " + c.CommandPath() + " --help"
	if !ok || (&flags{}).shared().Lookup(unknown.GetSpecifiedName()) == nil {
		return hint.New(err, remedy)
	}
	name, why := unknown.GetSpecifiedName(), ""
	switch {
	case name == "host":
		why = ": it works on this machine"
		remedy = "plan for that host: lasthop plan --host FILE -o iproute2"
	case strings.Contains(deciding, name+" ") && (c.Name() == "status" || c.Name() == "reload"):
		remedy = "the daemon takes its settings from lasthop.yaml; " + remedy
	}
	return hint.New(fmt.Errorf("%s does not take --%s%s", c.CommandPath(), name, why), remedy)
}

// formats refuses an output format that the command does not have.
func (f *flags) formats(have ...string) error {
	if !slices.Contains(have, f.output) {
		return hint.New(fmt.Errorf("output format %q: not one of this command", f.output),
			"there are: "+strings.Join(have, ", "))
	}
	return nil
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
		line: settings.Line{Flags: f.decide, NetNS: f.netns, Host: f.host,
			Sudo: os.Geteuid() != 0}}
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
	s.line.Served = f.decide.Any() && s.daemon().Runs()
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
