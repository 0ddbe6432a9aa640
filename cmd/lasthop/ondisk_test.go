package main_test

import (
	"bufio"
	"os/exec"
	"strings"
	"testing"

	"lasthop/internal/nstest"
)

// withConf runs the rest of the command line where /etc holds nothing but an
// nginx.conf that listens on $1, and an nginx folder for the namespace "blue".
const withConf = `mount --make-rprivate / && mount -t tmpfs none /etc && mkdir -p /etc/nginx /etc/netns/blue/nginx &&
	echo "events {} http { server { listen $1; } }" >/etc/nginx/nginx.conf &&
	mount -t tmpfs none /run && mkdir /run/netns && touch /run/netns/blue && mount --bind "$2" /run/netns/blue &&
	shift 2 && exec "$@"`

// onDisk is a machine on which no NGINX runs, with another namespace, and a
// process in it that sees other files.
type onDisk struct {
	lasthop, pid string
	here, there  *nstest.NS
}

func newOnDisk(t *testing.T) *onDisk {
	t.Parallel()
	d := &onDisk{here: nstest.New(t), there: nstest.New(t)}
	d.lasthop, _ = built(t, "10.0.0.10:80")
	for _, n := range []*nstest.NS{d.here, d.there} {
		n.Batch(confirmHost)
	}
	shown := d.command(d.there, "10.0.1.100:82", "sh", "-c", "echo $$; exec cat")
	in, err1 := shown.StdinPipe()
	out, err2 := shown.StdoutPipe()
	if err1 != nil || err2 != nil || shown.Start() != nil {
		t.Fatal(err1, err2)
	}
	t.Cleanup(func() { in.Close(); _ = shown.Wait() })
	pid, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	d.pid = strings.TrimSpace(pid)
	return d
}

// command is one in a namespace whose nginx.conf listens on an address.
func (d *onDisk) command(n *nstest.NS, listen string, command ...string) *exec.Cmd {
	return n.Command(append([]string{"unshare", "--mount", "sh", "-c", withConf, "sh", listen,
		d.there.Path}, command...)...)
}

// TestOnDisk: which file counts where no NGINX runs. This machine's says
// nothing of another network namespace if --listen does, or if that has files
// of its own: those of a process, or those that `ip netns exec` puts in their
// place.
func TestOnDisk(t *testing.T) {
	d := newOnDisk(t)
	const given, asked = "10.0.1.10:80", "10.0.1.10 "
	for _, tt := range []struct {
		name     string
		args     []string
		want     []string
		mustLack string
	}{
		{"here", nil, []string{"10.0.0.10 ", "no-nginx: /etc/nginx/nginx.conf",
			"lasthop reads the listeners from /etc/nginx/nginx.conf on disk"}, "this machine's"},
		{"here, with --listen", []string{"--listen", given}, []string{"10.0.0.10 ", asked}, ""},
		{"there", []string{"--netns", d.there.Path}, []string{"10.0.0.10 ",
			"this machine's /etc/nginx/nginx.conf"}, ""},
		{"there, with --listen", []string{"--netns", d.there.Path, "--listen", given},
			[]string{"Listeners (1)", asked}, "nginx"},
		{"a process there", []string{"--netns", d.pid}, []string{"Listeners (1)", "10.0.1.100 ",
			"as process " + d.pid + " sees it", "no-nginx: /proc/" + d.pid + "/root/etc/nginx"},
			"10.0.0.10 "},
		{"a process there, with --listen", []string{"--netns", d.pid, "--listen", given},
			[]string{"Listeners (1)", asked}, "nginx"},
		{"there by name", []string{"--netns", "blue"},
			[]string{"error: no NGINX runs in this network namespace, and " +
				"/etc/netns/blue/nginx is there in the place of /etc/nginx"},
			"Listeners"},
		{"there by name, with --listen", []string{"--netns", "blue", "--listen", given},
			[]string{"Listeners (1)", asked}, "nginx"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := d.command(d.here, "10.0.0.10:81", append([]string{d.lasthop, "plan",
				"--config", ""}, tt.args...)...)
			b, err := c.CombinedOutput()
			text := strings.Join(strings.Fields(string(b)), " ") + " "
			for _, want := range tt.want {
				if !strings.Contains(text, want) {
					t.Errorf("%v: lacks %q:\n%s", err, want, b)
				}
			}
			text, _, _ = strings.Cut(text, "Changes (")
			if tt.mustLack != "" && strings.Contains(text, tt.mustLack) {
				t.Errorf("%v: has %q:\n%s", err, tt.mustLack, b)
			}
		})
	}
}
