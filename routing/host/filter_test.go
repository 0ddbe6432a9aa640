package host

import (
	"errors"
	"strings"
	"testing"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// lastHop has one program for filters, with a tag.
type lastHop struct {
	t    *testing.T
	tag  string
	prog *ebpf.Program
}

func (l *lastHop) Support([]string) routing.LastHopSupport {
	return routing.LastHopSupport{Tag: l.tag, Known: true}
}

func (l *lastHop) Learn() (program int, tag string, err error) {
	if l.prog == nil {
		l.prog, err = ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "MIT",
			Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()}})
		if errors.Is(err, unix.EPERM) {
			l.t.Skipf("no programs here: %v", err)
		}
		if err != nil {
			return 0, "", err
		}
		l.t.Cleanup(func() { l.prog.Close() })
	}
	return l.prog.FD(), l.tag, nil
}

func (l *lastHop) Answer() (program int, tag string, err error) { return l.Learn() }

func (l *lastHop) InFront(int) []string                 { return nil }
func (l *lastHop) Wanted() ([]routing.Wanted, error)    { return nil, nil }
func (l *lastHop) SetWanted(routing.Wanted, bool) error { return nil }

// filters are those of all links as text.
func filters(t *testing.T, k *Kernel) (list []string) {
	t.Helper()
	for _, f := range read(t, k).Filters {
		list = append(list, f.String())
	}
	return list
}

const (
	ownA        = "dev e0 ingress pref 1 bpf direct-action name lasthop/a"
	ownB        = "dev e0 ingress pref 1 bpf direct-action name lasthop/b"
	theirFilter = "dev e0 ingress pref 1 bpf"
)

// theirs is the command that attaches another program's filter.
func theirs(pref, handle string) string {
	return "tc filter add dev e0 ingress pref " + pref + " handle " + handle +
		" bpf bytecode 1,6_0_0_0 flowid 1:1"
}

// setting attaches a filter of lasthop.
func setting(tag string) routing.Op {
	return routing.Op{Filter: &routing.Filter{Link: "e0", Pref: 1, Handle: 1, Kind: "bpf",
		Name: routing.LastHopPrefix + tag}}
}

var removal = routing.Op{Filter: setting("a").Filter, Delete: true}

var filterCases = []struct {
	name   string
	before []string // commands
	ops    []routing.Op
	err    error
	want   []string
	qdisc  string
}{
	{"added", nil, []routing.Op{setting("a")}, nil, []string{ownA}, "clsact"},
	{"added twice", nil, []routing.Op{setting("a"), setting("a")}, nil, []string{ownA}, "clsact"},
	{"replaced", nil, []routing.Op{setting("a"), setting("b")}, nil, []string{ownB}, "clsact"},
	{"removed", nil, []routing.Op{setting("a"), removal}, nil, nil, "clsact"},
	{"removed twice", nil, []routing.Op{setting("a"), removal, removal}, nil, nil, "clsact"},
	{"removed without a qdisc", nil, []routing.Op{removal}, nil, nil, ""},
	{"in a qdisc ingress", []string{"tc qdisc add dev e0 ingress"},
		[]routing.Op{setting("a"), setting("b")}, nil, []string{ownB}, "ingress"},
	{"removed from a qdisc ingress", []string{"tc qdisc add dev e0 ingress"},
		[]routing.Op{setting("a"), removal}, nil, nil, "ingress"},
	{"another in front", []string{"tc qdisc add dev e0 clsact", theirs("2", "1")},
		[]routing.Op{setting("a"), setting("b"), removal}, nil, []string{"dev e0 ingress pref 2 bpf"}, "clsact"},
	{"another at lasthop's place", []string{"tc qdisc add dev e0 clsact", theirs("1", "1")},
		[]routing.Op{setting("a")}, errForeign, []string{theirFilter}, "clsact"},
	{"another at lasthop's place, removed", []string{"tc qdisc add dev e0 clsact", theirs("1", "1")},
		[]routing.Op{removal}, nil, []string{theirFilter}, "clsact"},
	{"another at lasthop's pref", []string{"tc qdisc add dev e0 clsact", theirs("1", "2")},
		[]routing.Op{setting("a"), removal}, nil, []string{theirFilter}, "clsact"},
}

// TestFilters: a filter of lasthop is attached, replaced where it is, and
// removed; foreign filters stay as they are, in any qdisc.
func TestFilters(t *testing.T) {
	for _, tt := range filterCases {
		t.Run(strings.ReplaceAll(tt.name, " ", "-"), func(t *testing.T) {
			ns, k := open(t, "link add e0 type veth peer name p0\n"+
				"link set p0 up\nlink set e0 up\n")
			for _, c := range tt.before {
				words := strings.Fields(c)
				for i := range words {
					words[i] = strings.ReplaceAll(words[i], "_", " ")
				}
				ns.Run(words...)
			}
			l := &lastHop{t: t}
			k.LastHop = l
			var err error
			for _, op := range tt.ops {
				l.tag = strings.TrimPrefix(op.Filter.Name, routing.LastHopPrefix)
				if e := k.writing().do(op); e != nil {
					err = e
				}
			}
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if d := cmp.Diff(tt.want, filters(t, k)); d != "" {
				t.Errorf("filters: -want +got\n%s", d)
			}
			wantQdisc(t, ns, tt.qdisc)
		})
	}
}

func wantQdisc(t *testing.T, ns *nstest.NS, want string) {
	t.Helper()
	for _, kind := range []string{"clsact", "ingress"} {
		there := strings.Contains(ns.Run("tc", "qdisc", "show", "dev", "e0"), "qdisc "+kind)
		if there != (kind == want) {
			t.Errorf("qdisc %s is there: %v, want %q", kind, there, want)
		}
	}
}
