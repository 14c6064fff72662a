use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};

/// The mean weighted log loss of logits, in one pass and without overflow: `relu(z) - z*y + ln(1 + exp(-|z|))`.
pub(super) struct LogLoss {
    /// 0 or 1.
    pub(super) labels: Vec<f32>,
    pub(super) weights: Vec<f32>,
}

impl CustomOp1 for LogLoss {
    fn name(&self) -> &'static str {
        "log-loss"
    }

    fn cpu_fwd(&self, logits: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let logits = contiguous(logits, layout)?;
        let rows = logits.iter().zip(&self.labels).zip(&self.weights);
        let sum: f64 = rows.map(|((z, y), w)| f64::from(w * (z.max(0.0) - z * y + (-z.abs()).exp().ln_1p()))).sum();
        let mean = sum / logits.len() as f64;
        Ok((CpuStorage::F32(vec![mean as f32]), Shape::from(())))
    }

    fn bwd(&self, logits: &Tensor, _loss: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        let scale = gradient.to_scalar::<f32>()? / self.labels.len() as f32;
        let logits_now = logits.to_vec1::<f32>()?;
        let rows = logits_now.iter().zip(&self.labels).zip(&self.weights);
        let gradients: Vec<f32> = rows.map(|((z, y), w)| (sigmoid(*z) - y) * w * scale).collect();
        Ok(Some(Tensor::from_vec(gradients, logits.shape(), logits.device())?))
    }
}

/// The logistic function, without overflow on either side.
pub(super) fn sigmoid(z: f32) -> f32 {
    if z >= 0.0 {
        1.0 / (1.0 + (-z).exp())
    } else {
        let e = z.exp();
        e / (1.0 + e)
    }
}

/// The values of a tensor that lies in one piece.
pub(super) fn contiguous<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let all = storage.as_slice::<f32>()?;
    match layout.contiguous_offsets() {
        Some((from, to)) => Ok(&all[from..to]),
        None => candle_core::bail!("the tensor does not lie in one piece"),
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Var};

    use super::*;

    #[test]
    fn the_loss_and_its_gradient_are_finite_and_right_everywhere() {
        let z = [-200.0_f32, -3.0, 0.0, 2.0, 90.0];
        let labels = vec![1.0_f32, 0.0, 1.0, 1.0, 0.0];
        let weights = vec![1.0_f32, 2.0, 1.0, 0.5, 1.0];
        let var = Var::new(&z, &Device::Cpu).unwrap();
        let loss = var.apply_op1(LogLoss { labels: labels.clone(), weights: weights.clone() }).unwrap();
        let exact = |z: f64, y: f64| z.max(0.0) - z * y + (-z.abs()).exp().ln_1p();
        let wanted: f64 =
            (0..5).map(|i| f64::from(weights[i]) * exact(f64::from(z[i]), f64::from(labels[i]))).sum::<f64>() / 5.0;
        assert!((f64::from(loss.to_scalar::<f32>().unwrap()) - wanted).abs() < 1e-4);
        let gradients = loss.backward().unwrap().get(&var).unwrap().to_vec1::<f32>().unwrap();
        for i in 0..5 {
            let wanted = (1.0 / (1.0 + (-f64::from(z[i])).exp()) - f64::from(labels[i])) * f64::from(weights[i]) / 5.0;
            assert!((f64::from(gradients[i]) - wanted).abs() < 1e-6, "{i}: {gradients:?}");
        }
    }
}
