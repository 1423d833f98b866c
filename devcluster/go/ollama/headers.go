// Package headers pins the modules whose C headers Ollama is compiled with.
//
// A module's archive leaves out folders named vendor, where Ollama keeps them. Nothing of this package is run.
package headers

import _ "github.com/gen2brain/malgo" // miniaudio.h
