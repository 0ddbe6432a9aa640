package daemon

import (
	"errors"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// reloading is a server whose daemon has a lasthop.yaml.
type reloading struct{ *server }

// write replaces lasthop.yaml.
func (r reloading) write(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.File("lasthop.yaml"), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// reload runs `lasthop reload`. It wants that it fails and says these words,
// or that it works and says nothing.
func (r reloading) reload(want ...string) {
	r.t.Helper()
	out, errs, code := r.lasthop("reload")
	wanted := exitDone
	if len(want) > 0 {
		wanted = exitFailed
	}
	if code != wanted || out != "" || len(want) == 0 && errs != "" {
		r.t.Errorf("exit code %d, want %d: %s%s", code, wanted, out, errs)
	}
	for _, part := range want {
		if !strings.Contains(errs, part) {
			r.t.Errorf("it does not say %q: %s", part, errs)
		}
	}
}

// by wants that the kernel sends replies by a gateway.
func (r reloading) by(gateway string) {
	r.t.Helper()
	if o := r.owned(); !has(o, "default via "+gateway+" dev eth1") {
		r.t.Errorf("replies do not leave by %s: %q", gateway, o)
	}
}

func gateways(list string) string { return "interfaces: {eth1: {gateways: [" + list + "]}}\n" }

// TestReloadCommand: `lasthop reload` ends when the new settings are in the
// kernel. Whatever keeps them out of it is its error.
func TestReloadCommand(t *testing.T) {
	t.Parallel()
	r := reloading{newServer(t)}
	r.write(gateways("10.0.1.7"))
	r.start(func(o *Options) { o.Flags.File = r.File("lasthop.yaml") })
	r.write(gateways("10.0.1.8"))
	r.reload()
	r.by("10.0.1.8")
	if c := r.status().Last.Cause; !strings.HasPrefix(c, "settings read again for ") {
		t.Errorf("the cause is %q", c)
	}
	r.write("a: 1\nb: 2\n")
	r.reload("lasthop: error: the settings stay as they were: "+r.File("lasthop.yaml")+
		":1: unknown key \"a\"\nlasthop: error: ", ":2: unknown key \"b\"\nlasthop: hint: ")
	r.write("# a typo\ninterfaces: {eth1: {gateway: [10.0.1.9]}}\n")
	for range 2 { // the log has it once, and a user gets it each time
		r.reload("error: the settings stay as they were: "+r.File("lasthop.yaml")+
			`:2: interfaces.eth1: unknown key "gateway"`, "hint: the keys here: ")
	}
	r.by("10.0.1.8")
	r.write(gateways("10.0.1.8, 10.0.1.9"))
	r.reload("the settings stay as they were: contradiction: gateway eth1=", "hint: keep one")
	r.by("10.0.1.8")
	r.write("metrics: {listen: \"127.0.0.1:1\"}\n" + gateways("10.0.1.9"))
	r.reload("numbers and metrics take effect after a restart", "hint: systemctl restart")
	r.by("10.0.1.9")
	r.write(gateways("10.0.1.9"))
	r.Replace("events {")
	r.reload(r.File("nginx.conf")+":1: ", "hint: ")
	r.Conf("listen 10.0.1.100:80;")
	r.reload()
	r.loop(func() { // the loop gets no event of a file meanwhile
		r.Replace("http {")
		_, err := r.d.requested(request{reload: true})
		if err == nil || !strings.Contains(err.Error(), r.File("nginx.conf")) {
			t.Errorf("a configuration that was just edited: %v", err)
		}
	})
	r.Conf("listen 10.0.1.100:80;")
	r.reload()
	r.refusedByKernel()
}

// refusedByKernel wants the kernel's reason, behind that of a configuration.
func (r reloading) refusedByKernel() {
	r.t.Helper()
	r.write(gateways("10.0.1.11"))
	r.loop(func() {
		r.d.options.Kernel.Fault = func(kind int) error {
			if kind == unix.RTM_NEWROUTE {
				return unix.EPERM
			}
			return nil
		}
	})
	r.reload("operation not permitted")
	r.Replace("events {") // comes first in the error
	r.reload(r.File("nginx.conf") + ":1: ")
	r.Conf("listen 10.0.1.100:80;")
	r.loop(func() { r.d.options.Kernel.Fault = nil })
	r.reload()
	r.by("10.0.1.11")
}

// TestReloadUnnamed: an NGINX that runs with a configuration that cannot be
// read is no fault of settings that do not name it. reload waits for its
// reading nevertheless.
func TestReloadUnnamed(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.start()
	s.loop(func() {
		named, i := *s.d.fleet.settings, s.d.fleet.instances[0]
		unnamed := named
		unnamed.Confs = nil
		ask := func() error {
			_, err := s.d.requested(request{reload: true, read: true})
			return err
		}
		i.broken = errors.New("broken")
		if err := ask(); err == nil || err.Error() != "broken" {
			t.Errorf("a named one: %v", err)
		}
		s.d.fleet.settings = &unnamed
		if err := ask(); err != nil {
			t.Errorf("one that is not named: %v", err)
		}
		i.reading = &reading{}
		if err := ask(); !errors.Is(err, errReading) {
			t.Errorf("one that is being read: %v", err)
		}
		s.d.fleet.settings, i.broken, i.reading = &named, nil, nil
	})
}
