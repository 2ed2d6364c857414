-- A change as a list of its forge had it, where nothing else told of it since the look that was begun last.
ALTER TABLE changes ADD COLUMN listed TEXT;
