package flow

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

const benchConf = `daemon off;
master_process off;
pid %[1]s/pid;
error_log /dev/null;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/1;
	proxy_temp_path %[1]s/2;
	fastcgi_temp_path %[1]s/3;
	uwsgi_temp_path %[1]s/4;
	scgi_temp_path %[1]s/5;
	server { listen 10.7.0.10:80; return 200; }
}
`

// nginx starts a real one on the host, and returns what tells its processor
// time.
func (s *benchStreet) nginx(b *testing.B) func() time.Duration {
	if _, err := exec.LookPath("nginx"); err != nil {
		b.Skip(err)
	}
	dir := b.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, benchConf, dir), 0o600); err != nil {
		b.Fatal(err)
	}
	c := s.Host.Command("nginx", "-p", dir, "-c", conf)
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	})
	return func() (d time.Duration) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/schedstat", c.Process.Pid))
		if err == nil {
			_, err = fmt.Sscan(string(text), &d)
		}
		if err != nil {
			b.Error(err)
		}
		return d
	}
}

// BenchmarkNGINX is what an observer adds to NGINX's processor time for a
// request over a new connection: the ratio of with to without, in turn.
func BenchmarkNGINX(b *testing.B) {
	s := newBenchStreet(b)
	nginx := s.nginx(b)
	perRequest := func() float64 {
		before := nginx()
		s.connect(time.Second, 4)
		return float64(nginx()-before) / float64(max(1, s.asked.Swap(0)))
	}
	perRequest()
	var base, ratios []float64
	for range max(b.N, 20) {
		without := perRequest()
		s.watched(b, func() { ratios = append(ratios, perRequest()/without) })
		base = append(base, without)
	}
	report(b, base, "ns/request")
	report(b, ratios, "x")
}
