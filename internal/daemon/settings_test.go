package daemon

import (
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestReloadCommand: `lasthop reload` ends when the new settings are in the
// kernel. Whatever keeps them out of it is its error, and the kernel stays as
// it was.
func TestReloadCommand(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(s.File("lasthop.yaml"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("interfaces: {eth1: {gateways: [10.0.1.7]}}\n")
	s.start(func(o *Options) { o.Flags.File = s.File("lasthop.yaml") })
	reload := func(want ...string) {
		t.Helper()
		out, errs, code := s.lasthop("reload")
		wanted := exitDone
		if len(want) > 0 {
			wanted = exitFailed
		}
		if code != wanted || out != "" || len(want) == 0 && errs != "" {
			t.Errorf("exit code %d, want %d: %s%s", code, wanted, out, errs)
		}
		for _, part := range want {
			if !strings.Contains(errs, part) {
				t.Errorf("it does not say %q: %s", part, errs)
			}
		}
	}
	by := func(gateway string) {
		t.Helper()
		if o := s.owned(); !has(o, "default via "+gateway+" dev eth1") {
			t.Errorf("replies do not leave by %s: %q", gateway, o)
		}
	}
	write("interfaces: {eth1: {gateways: [10.0.1.8]}}\n")
	reload()
	by("10.0.1.8")
	if last := s.status().Last.Cause; !strings.HasPrefix(last, "settings read again for ") {
		t.Errorf("the cause is %q", last)
	}
	write("# a typo\ninterfaces: {eth1: {gateway: [10.0.1.9]}}\n")
	for range 2 {
		reload("error: the settings stay as they were: "+s.File("lasthop.yaml")+
			`:2: interfaces.eth1: unknown key "gateway"`, "hint: the keys here: ")
	}
	by("10.0.1.8")
	write("interfaces: {eth1: {gateways: [10.0.1.8, 10.0.1.9]}}\n")
	reload("the settings stay as they were: contradiction: gateway eth1=", "hint: keep one")
	by("10.0.1.8")
	write("interfaces: {eth1: {gateways: [10.0.1.9]}}\n")
	s.Replace("events {")
	reload(s.File("nginx.conf")+":1: ", "hint: ")
	by("10.0.1.9")
	s.Conf("listen 10.0.1.110:80;")
	write("interfaces: {eth1: {gateways: [10.0.1.8]}}\n")
	reload()
	write("metrics: {listen: \"127.0.0.1:1\"}\ninterfaces: {eth1: {gateways: [10.0.1.9]}}\n")
	reload("numbers and metrics stay as they were until a restart", "hint: systemctl restart")
	by("10.0.1.9")
	write("interfaces: {eth1: {gateways: [10.0.1.11]}}\n")
	s.loop(func() {
		s.d.options.Kernel.Fault = func(kind int) error {
			if kind == unix.RTM_NEWROUTE {
				return unix.EPERM
			}
			return nil
		}
	})
	reload("operation not permitted")
	s.loop(func() { s.d.options.Kernel.Fault = nil })
	reload()
	by("10.0.1.11")
}
