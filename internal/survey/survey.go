// Package survey reads everything that a decision depends on: the settings, the
// host, and what NGINX is configured to listen on. plan, apply, check and
// migrate use Look; tests of the planner join listeners with it; the daemon
// takes the same steps one by one.
//
//	nginx.conf --nginxconf.Load--> NGINX --+
//	kernel or capture --Machine.Read-------+--> routing.Inputs --Decide--> Survey
//
// Check asks the host afterwards whether each listener replies the way it was
// reached. A survey changes nothing.
package survey

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"lasthop/internal/hint"
	"lasthop/internal/settings"
	"lasthop/report"
	"lasthop/routing"
)

// Machine is a host to read and to write: this machine's kernel, a captured
// host, or a simulated one.
type Machine interface {
	Read() (routing.Host, error)
	// Ask returns the way of each question's packet.
	Ask([]routing.Query) ([]routing.Way, error)
	// Write carries out a diff, and returns the writes made.
	Write(routing.Diff) (done []routing.Op, err error)
}

// Place is a host, and how to read what is relevant besides its routing.
type Place struct {
	Machine
	Offline bool // a capture: its programs and sockets cannot be asked

	settings   func(settings.Flags) (settings.Settings, error)
	taken      func() time.Time
	running    func(named bool) (NGINX, error) // what is listened on if no file is named
	background func(routing.Inputs) Background
	halfOpen   func() []routing.HalfOpen       // nil for a capture
	files      func(named bool) []report.Input // the source of a captured host
	inside     func(func() error) error        // calls in the network namespace
}

// Survey is one look.
type Survey struct {
	Taken      time.Time
	Place      Place
	Settings   settings.Settings
	NGINX      NGINX
	Inputs     routing.Inputs
	Decision   routing.Decision
	Judged     *routing.Judgement // what Decision rests on; nil before Decide
	Background Background
	HalfOpen   []routing.HalfOpen // that wait for their client; read by CheckClasses
}

// Background is what a plan mentions besides the host and its listeners; no
// decision depends on it. A part that may not be read is nil.
type Background struct {
	DNATs        []routing.DNAT
	Sessions     []routing.SessionGroup
	NetworkFiles map[string]string // see host.NetworkFiles
}

// Look reads settings, host and listeners, and decides.
func (p Place) Look(f settings.Flags) (*Survey, error) {
	defer collectLate()()
	defer alone()()
	s, err := p.Host(f)
	if err != nil {
		return nil, err
	}
	if err := s.Listen(); err != nil {
		return nil, err
	}
	return s, s.Decide()
}

// collectLate delays the first garbage collection until the heap has 80 MiB,
// not 4, or until the caller calls the returned function. A look at 10,000
// listeners fills less, and a dozen collections of a growing heap take a fifth
// of its time. Later collections run at the usual pace, so that a host with
// many routes takes no more memory for it.
func collectLate() (end func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	const late = 2000 // percent of 4 MiB, which Go counts a smaller heap as
	own := debug.SetGCPercent(late)
	first := runtime.AddCleanup(new([64]byte), func(own int) { debug.SetGCPercent(own) }, own)
	return func() {
		first.Stop()
		debug.SetGCPercent(own)
	}
}

// alone makes one processor do all of a look, until the caller calls the
// returned function. The look's goroutines wait for each other; the two halves
// of the parser do so for each word. To wake another processor each time, which
// then finds no more work, costs more than it gains: a look at 10,000 files
// takes a third longer with two.
func alone() (end func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	runtime.GOMAXPROCS(1)
	return runtime.SetDefaultGOMAXPROCS
}

// Host reads settings and host, but not yet what NGINX listens on.
func (p Place) Host(f settings.Flags) (*Survey, error) {
	s := &Survey{Place: p, Taken: p.taken()}
	var err error
	if s.Inputs.Host, err = p.Read(); err != nil {
		return nil, err
	}
	s.Settings, err = p.settings(f)
	s.Inputs.Policy = s.Settings.Policy
	if p.files != nil {
		s.NGINX.Files = p.files(len(s.Settings.Confs) > 0)
	}
	return s, err
}

// Listen reads what NGINX listens on, from the named files, else from the
// running NGINX, else from the default file; and the listeners of the settings.
func (s *Survey) Listen() error {
	var n NGINX
	var err error
	if confs := s.Settings.Confs; len(confs) > 0 {
		n, err = named(confs)
	} else {
		n, err = s.Place.running(len(s.Settings.Listens) > 0)
	}
	if err != nil {
		return err
	}
	n.Files = append(s.NGINX.Files, n.Files...)
	s.NGINX, s.Inputs = n, n.Inputs(s.Inputs.Host, s.Settings)
	return nil
}

// Decide makes the decision from what was read.
func (s *Survey) Decide() (err error) {
	s.Decision, s.Judged, err = routing.Consider(s.Inputs)
	return err
}

// Listening returns an error if there is no listener: such a plan would remove
// everything, and only `clear` may do that.
func (s *Survey) Listening() error {
	if len(s.Inputs.Listeners) > 0 {
		return nil
	}
	return NoListener(s.NGINX, len(s.Decision.Owned.Rules) > 0,
		"no listener is configured: lasthop changes nothing")
}

// Owned reads what lasthop owns on the host by the numbers, and decides that
// all of it goes: `clear` carries this out.
func (p Place) Owned(n routing.Numbers) (*Survey, error) {
	h, err := p.Read()
	if err != nil {
		return nil, err
	}
	s := &Survey{Place: p, Taken: p.taken()}
	s.Inputs.Host, s.Inputs.Policy.Numbers = h, n
	s.Decision.Owned = routing.Owned(h, n)
	s.Decision.Diff = routing.Compare(s.Decision.Owned, routing.State{})
	return s, nil
}

// Fits returns an error unless the plan may be carried out: it has listeners
// and, if the user expects a digest, that digest.
func (s *Survey) Fits(expect string) error {
	if err := s.Listening(); err != nil {
		return err
	}
	digest := s.Decision.Digest()
	switch {
	case expect == "" || routing.IsDigest(expect, digest):
		return nil
	case len(routing.ShortDigest(expect)) < len(routing.ShortDigest(digest)):
		return hint.New(fmt.Errorf("--expect %s: too short for a digest: lasthop changes "+
			"nothing", expect), "give at least 12 digits of it")
	}
	return hint.New(fmt.Errorf("this is not the expected plan: its digest is %s: lasthop "+
		"changes nothing", routing.ShortDigest(digest)),
		"the host or the configuration has changed since; read `lasthop plan` again, "+
			"or compare with a plan that you kept: lasthop plan --diff FILE")
}

// NamedPaths returns the paths whose tables should have names.
func (s *Survey) NamedPaths() []routing.Path {
	if !s.Settings.TableNames {
		return nil // they may have been wanted before
	}
	return s.Decision.Plan.Paths
}

// ReadBackground reads what the plan mentions besides the routing.
func (s *Survey) ReadBackground() { s.Background = s.Place.background(s.Inputs) }

// AddBackground reads the background, and adds its findings: sessions that
// move, and listeners whose packets are translated.
func (s *Survey) AddBackground() {
	s.ReadBackground()
	p := &s.Decision.Plan
	p.Findings = slices.Concat(p.Findings, // a copy: other users may hold the decision's own
		routing.MovesEstablished(s.Inputs, s.Decision, s.Background.Sessions),
		routing.Translated(s.Inputs, *p, s.Background.DNATs))
}

// Head returns what the survey rests on.
func (s *Survey) Head() report.Head {
	return report.Head{Lasthop: report.BuildVersion().Lasthop, Host: s.Inputs.Host.Name,
		Kernel: s.Inputs.Host.Kernel, Time: s.Taken, Inputs: s.NGINX.Files}
}

// Plan returns the report of the decision, without the next steps.
func (s *Survey) Plan() report.Plan {
	d := s.Decision
	return report.Plan{Head: s.Head(), Policy: s.Inputs.Policy, Plan: d.Plan, Diff: d.Diff,
		Digest: d.Digest()}
}
