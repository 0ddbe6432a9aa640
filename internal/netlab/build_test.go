package netlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"lasthop/internal/nstest"
)

// built is a network in namespaces.
type built struct {
	*Network
	spaces map[string]*nstest.NS // by station
	talks  *talks
}

// common are the sysctls of all stations: no station learns from redirects, so
// that the same request goes the same way each time.
var common = []string{"net.ipv4.conf.all.accept_redirects=0",
	"net.ipv4.conf.default.accept_redirects=0", "net.ipv4.conf.all.send_redirects=0",
	"net.ipv4.conf.default.send_redirects=0", "net.ipv6.conf.all.accept_redirects=0",
	"net.ipv6.conf.default.accept_redirects=0", "net.ipv6.conf.default.accept_ra=0",
	"net.ipv6.conf.default.autoconf=0", "net.ipv4.ping_group_range=0 2147483647"}

// switches is the namespace with a bridge for each segment.
const switches = "switches"

// build makes the network.
func build(t testing.TB, n *Network) (*built, error) {
	b := &built{n, map[string]*nstest.NS{}, &talks{open: map[net.Conn]bool{}}}
	names := []string{switches, host}
	for _, s := range n.Stations {
		names = append(names, s.Name)
	}
	for _, name := range names {
		b.spaces[name] = nstest.New(t)
		if err := b.sysctl(name, common); err != nil {
			return nil, err
		}
	}
	if err := b.batch(switches, "", b.wiring()); err != nil {
		return nil, err
	}
	if err := b.stations(); err != nil {
		return nil, err
	}
	if err := b.buildHost(); err != nil {
		return nil, err
	}
	if err := b.running(); err != nil {
		return nil, err
	}
	if err := b.patient(); err != nil {
		return nil, err
	}
	return b, b.advertise()
}

// running waits until the kernel has noticed each carrier: until then it drops
// packets.
func (b *built) running() error {
	links := map[string][]string{}
	for i, w := range b.Wires {
		links[w.Station] = append(links[w.Station], w.Link)
		if w.Segment == "" {
			links[w.Peer] = append(links[w.Peer], w.Port)
		} else {
			links[switches] = append(links[switches], fmt.Sprintf("p%d", i))
		}
	}
	for end := time.Now().Add(nstest.Patience(5 * time.Second)); time.Now().Before(end); {
		for station, names := range links {
			b.spaces[station].Do(func() { names = waiting(names) })
			if links[station] = names; len(names) == 0 {
				delete(links, station)
			}
		}
		if len(links) == 0 {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
	return fmt.Errorf("links do not run: %v", links)
}

// patient makes the stations around the host ask for their neighbours often and
// for long: on a busy machine a question may be lost, and the kernel repeats it
// only after a second, which is longer than a request waits.
func (b *built) patient() (err error) {
	for _, s := range b.Stations {
		b.spaces[s.Name].Do(func() {
			list, _ := filepath.Glob("/proc/sys/net/ipv?/neigh/*/")
			for _, dir := range list {
				err = errors.Join(err,
					os.WriteFile(dir+"retrans_time_ms", []byte("50"), 0),
					os.WriteFile(dir+"mcast_solicit", []byte("20"), 0))
			}
		})
	}
	return err
}

// waiting returns the links that do not run yet, in the namespace of this
// thread.
func waiting(names []string) (out []string) {
	for _, name := range names {
		l, err := net.InterfaceByName(name)
		if err != nil || l.Flags&net.FlagRunning == 0 {
			out = append(out, name)
		}
	}
	return out
}

// sysctl writes sysctls of a station. A link's name may have a dot.
func (b *built) sysctl(station string, list []string) (err error) {
	b.spaces[station].Do(func() {
		for _, s := range list {
			key, value, _ := strings.Cut(s, "=")
			key = vmacs.ReplaceAllString(key, "vrrp/$1") // the dot of a name stays
			key = strings.NewReplacer(".", "/", "/", ".").Replace(key)
			if e := os.WriteFile("/proc/sys/"+key, []byte(value), 0); e != nil {
				err = errors.Join(err, e)
			}
		}
	})
	return err
}

// vmacs are names of links with a dot.
var vmacs = regexp.MustCompile(`vrrp\.(\d+)`)

// wiring returns the lines that join all links, in the namespace of the
// bridges.
func (b *built) wiring() (lines []string) {
	for _, s := range b.Segments {
		lines = append(lines, "link add "+s.Name+" type bridge mcast_snooping 0",
			"link set "+s.Name+" up")
	}
	for i, w := range b.Wires {
		port, end := fmt.Sprintf("p%d", i), ""
		if w.Segment == "" {
			port, end = w.Port, " netns "+b.spaces[w.Peer].Path
		}
		lines = append(lines, fmt.Sprintf("link add %s address %s netns %s type veth "+
			"peer name %s address %s%s", w.Link, mac(w.Station+w.Link),
			b.spaces[w.Station].Path, port, mac(port), end))
		if w.Segment != "" {
			lines = append(lines, "link set "+port+" master "+w.Segment+" up")
		}
	}
	return lines
}

// mac returns the address of a link, the same in each run.
func mac(name string) string {
	sum := uint32(2166136261)
	for _, c := range []byte(name) {
		sum = (sum ^ uint32(c)) * 16777619
	}
	b := binary.BigEndian.AppendUint32(nil, sum)
	return fmt.Sprintf("02:00:%02x:%02x:%02x:%02x", b[0], b[1], b[2], b[3])
}

// batch runs lines of ip in a station's namespace.
func (b *built) batch(station, family string, lines []string) error {
	if len(lines) == 0 {
		return nil
	}
	args := []string{"-batch", "-"}
	if family != "" {
		args = append([]string{family}, args...)
	}
	return b.run(station, strings.Join(lines, "\n")+"\n", "ip", args...)
}

// run runs a command in a station's namespace.
func (b *built) run(station, stdin, command string, args ...string) error {
	c := exec.Command(command, args...)
	c.Stdin = strings.NewReader(stdin)
	out, err := b.output(station, c)
	if err != nil {
		return fmt.Errorf("%s: %s %s: %w\n%s\n%s", station, command,
			strings.Join(args, " "), err, out, stdin)
	}
	return nil
}

// output starts a command on a thread that is in the station's namespace, and
// returns what it prints.
func (b *built) output(station string, c *exec.Cmd) ([]byte, error) {
	var out bytes.Buffer
	if c.Stdout == nil {
		c.Stdout = &out
	}
	if c.Stderr == nil {
		c.Stderr = &out
	}
	err := errors.New("not started")
	b.spaces[station].Do(func() { err = c.Start() })
	if err == nil {
		stop := time.AfterFunc(nstest.Patience(30*time.Second), func() { c.Process.Kill() })
		defer stop.Stop()
		err = c.Wait()
	}
	return out.Bytes(), err
}

// ups returns the lines that set a station's links up.
func (b *built) ups(station string) (lines []string) {
	for _, w := range b.Wires {
		if w.Station == station {
			lines = append(lines, "link set "+w.Link+" up")
		}
		if w.Peer == station {
			lines = append(lines, "link set "+w.Port+" up")
		}
	}
	return lines
}

// stations sets up all but the host.
func (b *built) stations() error {
	for _, s := range b.Stations {
		if err := b.batch(s.Name, "", append(b.ups(s.Name), s.Lines...)); err != nil {
			return err
		}
		if err := b.batch(s.Name, "-6", s.Lines6); err != nil {
			return err
		}
		if err := b.sysctl(s.Name, s.Sysctls); err != nil {
			return err
		}
		if s.Nft != "" {
			if err := b.run(s.Name, s.Nft, "nft", "-f", "-"); err != nil {
				return err
			}
		}
	}
	return nil
}

// buildHost sets up the host, and makes routers announce themselves to it.
func (b *built) buildHost() error {
	h := b.Host
	if h.Forward {
		if err := b.sysctl(host, []string{"net.ipv4.ip_forward=1",
			"net.ipv6.conf.all.forwarding=1"}); err != nil {
			return err
		}
	}
	if err := b.batch(host, "", append(b.ups(host), h.Lines...)); err != nil {
		return err
	}
	if err := b.batch(host, "-6", h.Lines6); err != nil {
		return err
	}
	if err := b.sysctl(host, h.Sysctls); err != nil {
		return err
	}
	if h.Nft != "" {
		if err := b.run(host, h.Nft, "nft", "-f", "-"); err != nil {
			return err
		}
	}
	return nil
}

// advertise sends the router advertisements until the host has received them: a
// link that has just come up may lose one.
func (b *built) advertise() error {
	sent := 0
	for _, s := range b.Stations {
		sent += len(s.Adverts)
	}
	for end := time.Now().Add(nstest.Patience(2 * time.Second)); sent > 0; {
		if err := b.announce(); err != nil {
			return err
		}
		time.Sleep(10 * time.Millisecond)
		out, err := b.output(host,
			exec.Command("ip", "-6", "-N", "route", "show", "proto", "9"))
		if err != nil {
			return err
		}
		if strings.Count(string(out), "via fe80::") >= sent {
			break
		}
		if time.Now().After(end) {
			return fmt.Errorf("not all of %d advertisements heard:\n%s", sent, out)
		}
	}
	for _, s := range b.Stations {
		if s.Dead == "" {
			continue
		}
		if err := b.batch(s.Name, "", []string{"link set " + s.Dead + " down"}); err != nil {
			return err
		}
	}
	return nil
}

// announce sends each advertisement once.
func (b *built) announce() (err error) {
	for _, s := range b.Stations {
		for _, a := range s.Adverts {
			b.spaces[s.Name].Do(func() {
				if e := a.send(); e != nil {
					err = fmt.Errorf("advertise %s: %w", s.Name, e)
				}
			})
		}
	}
	return err
}

// send sends the advertisement (RFC 4861, 4.2) on the calling thread.
func (a Advert) send() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMPV6)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	index, err := interfaceIndex(fd, a.Link)
	if err != nil {
		return err
	}
	for option, value := range map[int]int{unix.IPV6_MULTICAST_HOPS: 255,
		unix.IPV6_MULTICAST_IF: index} {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, option, value); err != nil {
			return err
		}
	}
	from := &unix.SockaddrInet6{Addr: a.From.As16(), ZoneId: uint32(index)}
	if err := unix.Bind(fd, from); err != nil {
		return err
	}
	lifetime := 1800
	if a.Gone {
		lifetime = 0
	}
	m := []byte{134, 0, 0, 0, 64, a.Preference << 3, byte(lifetime >> 8), byte(lifetime),
		0, 0, 0, 0, 0, 0, 0, 0}
	if !a.Silent {
		m = append(m, 1, 1)
		l, err := net.InterfaceByName(a.Link)
		if err != nil {
			return err
		}
		m = append(m, l.HardwareAddr...)
	}
	all := netip.MustParseAddr("ff02::1").As16()
	return unix.Sendto(fd, m, 0, &unix.SockaddrInet6{Addr: all, ZoneId: uint32(index)})
}

func interfaceIndex(fd int, link string) (int, error) {
	r, err := unix.NewIfreq(link)
	if err != nil {
		return 0, err
	}
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, r); err != nil {
		return 0, fmt.Errorf("index of %s: %w", link, err)
	}
	return int(r.Uint32()), nil
}

// program returns the command that runs lasthop on the host, with the host's
// leases and a run directory of its own: /run and /proc are private.
func (b *built) program(bin, dir string, args ...string) *exec.Cmd {
	const script = `mount --make-rprivate / && mount -t proc proc /proc && mount -t tmpfs none /run &&
mkdir -p /run/systemd/netif && ln -s "$0/leases" /run/systemd/netif/leases && exec "$@"`
	all := append([]string{"-c", script, dir, bin}, args...)
	c := exec.Command("/bin/sh", append(all, "--config=", "--run-dir="+dir+"/run")...)
	c.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	return c
}

// lasthop runs the program until it ends.
func (b *built) lasthop(bin, dir string, args ...string) (stdout []byte, code int, err error) {
	c := b.program(bin, dir, args...)
	var out, diag bytes.Buffer
	c.Stdout, c.Stderr = &out, &diag
	_, err = b.output(host, c)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return out.Bytes(), exit.ExitCode(), fmt.Errorf("%w: %s", err, diag.String())
	}
	return out.Bytes(), 0, err
}

// files writes to a directory what lasthop reads besides the kernel.
func (b *built) files(dir string) error {
	err := os.Mkdir(dir+"/leases", 0o755)
	for link, text := range b.Host.Leases {
		err = errors.Join(err, b.lease(dir, link, text))
	}
	return errors.Join(err, os.WriteFile(dir+"/nginx.conf", []byte(b.Host.Conf), 0o644))
}

// lease writes networkd's lease of a link.
func (b *built) lease(dir, link, text string) error {
	out, err := b.output(host, exec.Command("ip", "-o", "link", "show", link))
	index, _, _ := strings.Cut(string(out), ":")
	name := dir + "/leases/" + index
	return errors.Join(err, os.WriteFile(name+".new", []byte(text), 0o644),
		os.Rename(name+".new", name))
}
