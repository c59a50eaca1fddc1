// Package users knows the names of this machine's users from its passwd file.
package users
