package lasthop_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"lasthop/routing/flow/lasthop"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
)

// verdict is a foreign program that says one thing of every packet.
func verdict(t *testing.T, is int32) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "foreign", Type: ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, is), asm.Return()},
		License:      "MIT"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// TestForeign: a foreign program in front that passes packets on costs nothing.
// One that ends the chain leaves all to the table, and Blind tells.
func TestForeign(t *testing.T) {
	const pass, ok = -1, 0
	for _, tt := range []struct {
		name    string
		verdict int32
		tcx     bool
		blind   bool
	}{{"clsact that passes", pass, false, false}, {"clsact that ends", ok, false, true},
		{"tcx that passes", pass, true, false}, {"tcx that ends", ok, true, true}} {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			l := newLab(t)
			l.serve()
			s := l.steer(1 << 12)
			for i := range s.state.Filters {
				s.state.Filters[i].Pref = 2
			}
			s.install()
			s.inFront(t, verdict(t, tt.verdict), tt.tcx)
			if got := s.seenInFront("e1"); tt.tcx && !slices.Equal(got,
				[]string{"dev e1 ingress tcx name foreign"}) {
				t.Errorf("in front of lasthop's: %q", got)
			}
			before := s.reading()
			if n := s.replies("a", vips["lo"][4], 5); n != 5 {
				t.Errorf("%d of 5 are answered by the table's router", n)
			}
			if err := tcp(10, 10)(l.clients["c"], vips["lo"][4]); err != nil {
				t.Errorf("by the router of another link: %v", err)
			}
			within := patience
			if tt.blind {
				within = soon
			}
			_, err := dialWithin(within, l.clients["b"], "tcp", vips["lo"][4], tcpPort)
			if (err == nil) == tt.blind {
				t.Errorf("by another router of the link: %v", err)
			}
			after, a, c := s.reading(), l.hop("a").Link, l.hop("c").Link
			if got := lasthop.Blind(before, after, a); got != tt.blind {
				t.Errorf("blind: %v; %+v, then %+v", got, before, after)
			}
			if lasthop.Blind(before, after, c) || lasthop.Blind(after, after, a) {
				t.Errorf("the other link, or no time at all, is said to be blind")
			}
		})
	}
}

// seenInFront are the tcx programs of a link as the host is read.
func (s *steer) seenInFront(link string) (list []string) {
	s.t.Helper()
	h, err := s.kernel.Read()
	if err != nil {
		s.t.Fatal(err)
	}
	for _, f := range h.Filters {
		if f.Link == link && f.Kind == "tcx" {
			list = append(list, f.String())
		}
	}
	return list
}

func (s *steer) reading() lasthop.Reading {
	s.t.Helper()
	r, err := s.maps().Read()
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// inFront attaches a program in front of lasthop on e1.
func (s *steer) inFront(t *testing.T, p *ebpf.Program, tcx bool) {
	t.Helper()
	if !tcx {
		pin := filepath.Join(s.control.Place.Root, "foreign")
		if err := p.Pin(pin); err != nil {
			t.Fatal(err)
		}
		s.host.Run("tc", "filter", "add", "dev", "e1", "ingress", "pref", "1", "bpf",
			"direct-action", "object-pinned", pin)
		return
	}
	var held link.Link
	var err error
	s.host.Do(func() {
		held, err = link.AttachTCX(link.TCXOptions{Interface: indexOf("e1"), Program: p,
			Attach: ebpf.AttachTCXIngress})
	})
	if err != nil {
		t.Skipf("no tcx here: %v", err)
	}
	t.Cleanup(func() { held.Close() })
}
