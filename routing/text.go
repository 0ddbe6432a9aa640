package routing

import "fmt"

// String returns the op as a command.
func (o Op) String() string { return fmt.Sprintf("%+v", struct{ Op }{o}.Delete) }
