"""The `labs` command: what authors, teachers and CI need beside the labs. No notebook imports it."""
