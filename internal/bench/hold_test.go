package bench

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
)

func TestHold(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("HOLD_N"))
	if n == 0 {
		t.Skip()
	}
	s := newStreet(t, os.Getenv("HOLD_EXE"), 4, n)
	s.configure(func(i int) string {
		if os.Getenv("HOLD_LAYOUT") == "files" {
			file := fmt.Sprintf("%s/site%d", s.dir, i)
			s.write(file, fmt.Sprintf(site, s.vip(families[0], i), i))
			return "include " + file + ";\n"
		}
		return fmt.Sprintf("server { listen %s:80; }\n", s.vip(families[0], i))
	})
	c := s.host.Command("bash", "-c", os.Getenv("HOLD_DO"))
	c.Env = append(os.Environ(), "D="+s.dir, "C="+s.conf())
	c.Stdout, c.Stderr = os.Stdout, os.Stderr
	if err := c.Run(); err != nil {
		t.Fatal(c.ProcessState, err, exec.ErrNotFound)
	}
}
