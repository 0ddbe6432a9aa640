package flow

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"lasthop/internal/nstest"
	"lasthop/routing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) { os.Exit(nstest.Main(m)) }

// scattered returns n ports that do not touch.
func scattered(n int) (ports portSet) {
	for i := range n {
		p := uint16(1 + i*13)
		ports = append(ports, routing.PortRange{First: p, Last: p})
	}
	return ports
}

// TestPortTree asks the comparisons for every port.
func TestPortTree(t *testing.T) {
	for _, n := range []int{1, 2, 8, 9, 100, 1000, 2500} {
		ports := scattered(n)
		for i := range ports {
			if i%3 == 0 {
				ports[i].Last += uint16(i % 11)
			}
		}
		checkTree(t, ports)
	}
	checkTree(t, portSet{{First: 1, Last: 65535}})
	checkTree(t, portSet{{First: 0, Last: 0}, {First: 65535, Last: 65535}})
}

func checkTree(t *testing.T, ports portSet) {
	t.Helper()
	program := append([]bpf.Instruction{bpf.LoadAbsolute{Size: 2}}, portTree(ports)...)
	program = append(program, bpf.RetConstant{Val: 77})
	vm, err := bpf.NewVM(program)
	if err != nil {
		t.Fatalf("%d ranges: %v", len(ports), err)
	}
	frame := make([]byte, 128)
	for p := range 65536 {
		binary.BigEndian.PutUint16(frame, uint16(p))
		kept, err := vm.Run(frame)
		if err != nil || (kept == 77) != ports.holds(uint16(p)) {
			t.Fatalf("%d ranges: port %d: kept %d, %v", len(ports), p, kept, err)
		}
	}
}

// TestFilterAttaches: the kernel takes a filter for every number of ports.
func TestFilterAttaches(t *testing.T) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	r := &ring{fd: fd}
	whole := 0 // the largest number of ports that the filter holds
	for n := 0; n <= 5000; n += 1 + n/20 {
		for _, probe := range []bool{false, true} {
			spec := filterSpec{ports: scattered(n), masks: coarse, salt: 1,
				probe: probe}
			if err := r.filter(&spec); err != nil || spec.headless {
				t.Fatalf("%d ports: %v", n, err)
			}
			if len(spec.program(spec.ports).ins) <= maxInstructions {
				whole = n
			}
		}
	}
	if whole < 1500 {
		t.Errorf("only %d scattered ports fit", whole)
	}
}

// TestFilterWithLittleRoom: if the kernel has little room, as before Linux 6.7,
// the filter is attached for every number of ports nevertheless, and again.
func TestFilterWithLittleRoom(t *testing.T) {
	ns := nstest.New(t)
	sizes := map[string]bool{}
	ns.Do(func() {
		err := os.WriteFile("/proc/sys/net/core/optmem_max", []byte("20480"), 0)
		if err != nil {
			t.Skip("this kernel has one limit for all namespaces:", err)
		}
		for n := 0; n <= 5000; n += 1 + n/5 {
			spec := filterSpec{ports: scattered(n), masks: coarse, salt: 1}
			r, err := openRing(&spec)
			if err != nil {
				t.Errorf("%d ports: %v", n, err)
				return
			}
			for _, spec.masks = range []masks{{}, coarse, {}, {payload: 7}} {
				if err := r.filter(&spec); err != nil {
					t.Errorf("%d ports, again: %v", n, err)
				}
			}
			sizes[fmt.Sprint(n > 0, spec.headless, len(spec.ports) > 0)] = true
			r.close()
		}
	})
	if !sizes["true true true"] || !sizes["true true false"] {
		t.Errorf("not all sizes were tried: %v", sizes)
	}
}

// wire is two ends of a cable in one namespace, and a tunnel: what is sent
// leaves by one end and comes in by the other.
type wire struct {
	ns       *nstest.NS
	out, in  int // indexes
	tun      int
	fd, tunD int
	mac      [6]byte // of the end where frames come in
}

func newWire(t *testing.T) *wire {
	w := &wire{ns: nstest.New(t), mac: [6]byte{2, 0, 0, 0, 0, 9}}
	w.ns.Sysctl("net.ipv6.conf.default.disable_ipv6=1")
	w.ns.Batch("link add out type veth peer name in address 02:00:00:00:00:09\n" +
		"tuntap add tun mode tun\nlink set out up\nlink set in up\nlink set tun up")
	w.out, w.in, w.tun = w.index(t, "out"), w.index(t, "in"), w.index(t, "tun")
	w.ns.Do(func() {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			err = unix.Bind(fd, &unix.SockaddrLinklayer{Ifindex: w.out})
		}
		if err != nil {
			t.Error(err)
		}
		w.fd = fd
		w.tunD, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Error(err)
			return
		}
		req, _ := unix.NewIfreq("tun")
		req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		if err := unix.IoctlIfreq(w.tunD, unix.TUNSETIFF, req); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() {
		unix.Close(w.fd)
		unix.Close(w.tunD)
	})
	return w
}

func (w *wire) index(t *testing.T, name string) (n int) {
	t.Helper()
	if _, err := fmt.Sscanf(w.ns.IP("-o link show "+name), "%d:", &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// open opens a ring with a filter in the namespace.
func (w *wire) open(t *testing.T, s filterSpec) (r *ring) {
	t.Helper()
	var err error
	w.ns.Do(func() { r, err = openRing(&s) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// TestFilterInKernel holds the filter against Parse: the kernel passes exactly
// the random frames that Parse reads and the sampling takes, and of none more
// than its headers.
func TestFilterInKernel(t *testing.T) {
	ports := portSet{{First: 80, Last: 80}, {First: 443, Last: 450}}
	for _, spec := range []filterSpec{
		{ports: ports, salt: 4711},
		{ports: ports, salt: 4711, probe: true},
		{ports: scattered(5000), salt: 1}, // do not fit: all ports pass
		{ports: ports, salt: rand.Uint32(), masks: masks{handshake: 1, payload: 3}},
		{ports: ports, salt: rand.Uint32(), masks: masks{handshake: 1, payload: 3},
			headless: true}, // all by the loads that any link header allows
	} {
		t.Run(fmt.Sprintf("%d ranges %v %v %v", len(spec.ports), spec.masks, spec.probe,
			spec.headless),
			func(t *testing.T) { filterRound(t, spec) })
	}
}

func filterRound(t *testing.T, spec filterSpec) {
	w := newWire(t)
	r := w.open(t, spec)
	const n = 1000
	rnd := rand.New(rand.NewPCG(1, uint64(spec.salt)))
	want := map[sighting]int{} // how many bytes may be kept
	fits := len(spec.program(spec.ports).ins) <= maxInstructions
	for i := range n {
		b := frameBuilder{rnd: rnd, id: uint16(i), anyPort: !fits}
		f := b.build(w.mac)
		b.expect(want, w, spec, f)
		fd, data := w.fd, f.bytes
		if f.tunnel {
			fd = w.tunD
		}
		if _, err := unix.Write(fd, data); err != nil {
			t.Fatalf("send frame %d: %v", i, err)
		}
	}
	got := map[sighting]int{}
	collect := func(m Meta, kept []byte) {
		p, ok := Parse(m, kept, spec.salt)
		if !ok {
			t.Errorf("the filter passes what Parse does not read: %+v %x", m, kept)
		}
		got[sighting{idOf(p), m.Link}] = len(kept)
	}
	for end := time.Now().Add(nstest.Patience(time.Second)); time.Now().Before(end) &&
		len(got) < len(want); {
		for r.block(collect) {
		}
		r.wait(retire)
	}
	for r.block(collect) { // what should not be
	}
	compareSightings(t, want, got)
}

// sighting is a frame on a link.
type sighting struct {
	id   uint16
	link int
}

func idOf(p Packet) uint16 {
	a := p.Src.As16()
	return be16(a[14:])
}

func compareSightings(t *testing.T, want, got map[sighting]int) {
	t.Helper()
	if len(want) < 50 {
		t.Errorf("only %d frames are wanted: the frames do not try the filter", len(want))
	}
	for s, most := range want {
		kept, ok := got[s]
		switch {
		case !ok:
			t.Errorf("frame %d on link %d: dropped, Parse wants it", s.id, s.link)
		case kept > most:
			t.Errorf("frame %d on link %d: %d bytes kept, want at most %d", s.id,
				s.link, kept, most)
		}
	}
	for s := range got {
		if _, ok := want[s]; !ok {
			t.Errorf("frame %d on link %d: passed, Parse does not want it", s.id,
				s.link)
		}
	}
}
