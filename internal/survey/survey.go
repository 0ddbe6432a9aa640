// Package survey takes one look at everything that a decision depends on: the
// settings, the host, and what NGINX is configured to listen on. Look is what
// plan, apply, check and migrate share, and what tests of the planner join
// listeners with; the daemon takes the same steps one by one.
//
//	nginx.conf --nginxconf.Load--> NGINX --+
//	kernel or capture --Machine.Read-------+--> routing.Inputs --Decide--> Survey
//
// Check asks the host afterwards whether each listener replies the way it was
// reached. A survey changes nothing.
package survey

import (
	"errors"
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

// Machine is a host to look at and to write to: this machine's kernel, a
// captured host, or a simulated one.
type Machine interface {
	Read() (routing.Host, error)
	// Ask returns the way of each question's packet.
	Ask([]routing.Query) ([]routing.Way, error)
	// Write carries out a diff, and returns the writes made.
	Write(routing.Diff) (done []routing.Op, err error)
}

// Place is a host, and how to learn what there is beside its routing.
type Place struct {
	Machine
	Offline bool // a capture: programs and sockets are not here to be asked

	settings func(settings.Flags) (settings.Settings, error)
	taken    func() time.Time
	running  func(named bool) (NGINX, error) // what is listened on where no file is named
	beside   func(routing.Inputs) Beside
	halfOpen func() []routing.HalfOpen       // nil for a capture
	files    func(named bool) []report.Input // what a captured host comes from
	inside   func(func() error) error        // calls in the network namespace
}

// Survey is one look.
type Survey struct {
	Taken    time.Time
	Place    Place
	Settings settings.Settings
	NGINX    NGINX
	Inputs   routing.Inputs
	Decision routing.Decision
	Judged   *routing.Judgement // what Decision rests on; nil before Decide
	Beside   Beside
	HalfOpen []routing.HalfOpen // that wait for their client; read by CheckClasses
}

// Beside is what a plan speaks of beside the host and its listeners; nothing of
// it decides. What may not be read is nil.
type Beside struct {
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

// collectLate has the first garbage collection wait until there are 80 MiB,
// not 4, or until the returned function is called: a look at 10,000 listeners
// fills less, and a dozen collections of a heap that grows take a fifth of its
// time. What follows the first is collected at the usual pace, so that a host
// with many routes takes no more memory for it.
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

// alone has one processor do all of a look, until the returned function is
// called. Its goroutines wait for each other, the two halves of the parser for
// each word; to wake another processor each time, which looks for more work in
// vain, costs more than it gains: a look at 10,000 files takes a third longer
// with two.
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

// Listen reads what NGINX listens on: by the named files, else what runs, else
// the default file; and the listeners of the settings.
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

// Listening returns an error if there is no listener: such a plan would take
// everything away, and that is for `clear` alone.
func (s *Survey) Listening() error {
	if len(s.Inputs.Listeners) > 0 {
		return nil
	}
	return hint.New(errors.New("no listener is configured: nothing is changed"),
		"if NGINX listens nowhere any more, take everything away with: lasthop clear")
}

// Owned reads what is ours on the host by the numbers, and decides that nothing
// is to be: what `clear` carries out.
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

// Fits returns an error unless the plan may be carried out: it has listeners,
// and is the one that was approved, if a digest is expected.
func (s *Survey) Fits(expect string) error {
	if err := s.Listening(); err != nil {
		return err
	}
	digest := s.Decision.Digest()
	switch {
	case expect == "" || routing.IsDigest(expect, digest):
		return nil
	case len(routing.ShortDigest(expect)) < len(routing.ShortDigest(digest)):
		return hint.New(fmt.Errorf("--expect %s: too short for a digest: nothing is "+
			"changed", expect), "give at least 12 digits of it")
	}
	return hint.New(fmt.Errorf("this is another plan than the one expected: its digest is %s: "+
		"nothing is changed", routing.ShortDigest(digest)),
		"the host or the configuration has changed since; read `lasthop plan` again, "+
			"or compare with a plan that you kept: lasthop plan --diff FILE")
}

// NamedPaths are the paths whose tables are to have names.
func (s *Survey) NamedPaths() []routing.Path {
	if !s.Settings.TableNames {
		return nil // they may have been wanted before
	}
	return s.Decision.Plan.Paths
}

// LookBeside reads what the plan speaks of beside the routing.
func (s *Survey) LookBeside() { s.Beside = s.Place.beside(s.Inputs) }

// AddBeside looks beside the routing, and adds the findings that come from
// there: sessions that move, and listeners whose packets are translated.
func (s *Survey) AddBeside() {
	s.LookBeside()
	p := &s.Decision.Plan
	p.Findings = slices.Concat(p.Findings, // a copy: others may hold the decision's own
		routing.MovesEstablished(s.Inputs, s.Decision, s.Beside.Sessions),
		routing.Translated(s.Inputs, *p, s.Beside.DNATs))
}

// Head says what the survey rests on.
func (s *Survey) Head() report.Head {
	return report.Head{Lasthop: report.BuildVersion().Lasthop, Host: s.Inputs.Host.Name,
		Kernel: s.Inputs.Host.Kernel, Time: s.Taken, Inputs: s.NGINX.Files}
}

// Plan is the report of the decision, without what is to be done next.
func (s *Survey) Plan() report.Plan {
	d := s.Decision
	return report.Plan{Head: s.Head(), Plan: d.Plan, Diff: d.Diff, Digest: d.Digest()}
}
