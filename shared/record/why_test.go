package record

func (w *world) explained() {}
